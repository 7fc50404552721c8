//! What a processor and a C library decide of a count: libraries choose among variants of a function by what the
//! processor can do, when a process starts. valgrind shows programs a processor of its own, which can no more than the
//! real one, and lacks some of that: so what counts is what a process sees that runs under it.

/// Features by which a library that is built in, or the C library, chooses a function.
macro_rules! features {
    ($detected:ident: $($feature:tt)*) => {
        [$(($feature, std::arch::$detected!($feature)),)*]
    };
}

/// What this process sees, in a line: counts of machines that say the same are of the same instructions.
pub(crate) fn description() -> String {
    let features: Vec<&str> = features().into_iter().flatten().collect();
    format!(
        "{} {} {}",
        std::env::consts::ARCH,
        features.join(","),
        c_library()
    )
    .trim_end()
    .to_owned()
}

#[cfg(target_arch = "x86_64")]
fn features() -> impl IntoIterator<Item = Option<&'static str>> {
    let known = features!(is_x86_feature_detected:
        "sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "movbe" "aes" "pclmulqdq" "avx" "avx2" "fma" "f16c" "bmi1" "bmi2"
        "lzcnt" "adx" "sha" "rdrand" "rdseed" "avx512f" "avx512bw" "avx512vl" "vaes" "vpclmulqdq");
    known.map(|(feature, is_there)| is_there.then_some(feature))
}

#[cfg(target_arch = "aarch64")]
fn features() -> impl IntoIterator<Item = Option<&'static str>> {
    let known = features!(is_aarch64_feature_detected: "neon" "aes" "pmull" "sha2" "sha3" "lse" "sve" "sve2");
    known.map(|(feature, is_there)| is_there.then_some(feature))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> impl IntoIterator<Item = Option<&'static str>> {
    []
}

/// Copying and comparing are its functions.
#[cfg(target_env = "gnu")]
fn c_library() -> String {
    // SAFETY: it returns a string that is never changed and never freed.
    let version = unsafe { std::ffi::CStr::from_ptr(nix::libc::gnu_get_libc_version()) };
    format!("glibc-{}", version.to_string_lossy())
}

#[cfg(not(target_env = "gnu"))]
fn c_library() -> String {
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_line_that_names_the_architecture() {
        let description = description();
        assert!(
            description.starts_with(std::env::consts::ARCH),
            "{description}"
        );
        assert_eq!(description.lines().count(), 1);
        assert_eq!(description, super::description());
        #[cfg(target_arch = "x86_64")]
        assert!(!description.contains(",,"), "{description}");
    }
}
