//! The whole suite on every backend.

mod epoll {
    use aioli_compat_tests::{Epoll, conformance};

    conformance!(Epoll);
}

mod uring {
    use aioli_compat_tests::{Uring, conformance};

    conformance!(Uring);
}

mod sim {
    use aioli_compat_tests::{Sim, conformance};

    conformance!(Sim);
}
