//! The epoll driver of aioli, and run() on it.
