//! How long freed memory stays with the process.

use std::ffi::c_long;

/// Milliseconds until freed pages go back to the system.
const KEEP: c_long = 10_000;

/// The position of the option in mimalloc's list of them, for which the bindings have no name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Keeps freed memory longer than mimalloc would: an epoch frees what the next one takes, and pages
/// given back in between would have to be cleared again by the system, a sixth of a replay's time. For binaries whose allocator is mimalloc, before they do anything else; what the
/// environment says (`MIMALLOC_PURGE_DELAY`) stays in force.
pub fn keep_freed_memory() {
    #[allow(
        unsafe_code,
        reason = "the option can only be set through the C interface"
    )]
    // SAFETY: the call writes one number into mimalloc's table of options.
    unsafe {
        libmimalloc_sys::mi_option_set_default(PURGE_DELAY, KEEP);
    }
}
