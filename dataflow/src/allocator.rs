//! How the process gets memory, and how long it keeps what is freed.

use std::ffi::c_long;

/// Milliseconds until freed pages go back to the system.
const KEEP: c_long = 10_000;

/// The position of the option in mimalloc's list of them, for which the bindings have no name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// For binaries whose allocator is mimalloc, before they do anything else.
///
/// - C libraries get their memory from it too (the bindings are built with `override`): the system's
///   allocator gave each buffer that librdkafka had read into back, and had it cleared again for the next.
///   A job from topic to topic is a tenth faster without that.
/// - Freed memory is kept longer than mimalloc would: an epoch frees what the next one takes, and pages
///   given back in between would have to be cleared again by the system, a sixth of a replay's time.
///   What the environment says (`MIMALLOC_PURGE_DELAY`) stays in force.
/// - Pages are small: on a virtual machine huge ones come from memory that its host must find and clear
///   first, which made a job from topic to topic a tenth slower, and nothing was faster with them.
pub fn settle_memory() {
    #[allow(
        unsafe_code,
        reason = "the option can only be set through the C interface"
    )]
    // SAFETY: the call writes one number into mimalloc's table of options.
    unsafe {
        libmimalloc_sys::mi_option_set_default(PURGE_DELAY, KEEP);
    }
    #[cfg(target_os = "linux")]
    // A kernel that does not know of huge pages has none.
    rustix::thread::disable_transparent_huge_pages(true).ok();
}
