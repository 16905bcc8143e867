//! Compares with a file of the repository; `UPDATE_GOLDEN=1` writes it.

pub(crate) fn check(path: &str, actual: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, actual).unwrap_or_else(|error| panic!("{path}: {error}"));
        return;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert!(expected == actual, "{path} differs from what the code makes; UPDATE_GOLDEN=1 rewrites it\n{actual}");
}
