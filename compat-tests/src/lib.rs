//! The conformance suite of aioli, generic over backends.
