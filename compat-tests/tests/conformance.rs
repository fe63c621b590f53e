//! The whole suite on every backend.

mod epoll {
    use aioli_compat_tests::{Epoll, conformance};

    conformance!(Epoll);
}

mod sim {
    use aioli_compat_tests::{Sim, conformance};

    conformance!(Sim);
}
