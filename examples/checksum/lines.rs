//! How a file looks in the output and in a diagnostic. Text in, text out.

use std::fmt::Write;
use std::path::Path;

/// What makes a name odd: other tools may misread its line.
pub(crate) fn oddity(name: &Path) -> Option<&'static str> {
    let bytes = name.as_os_str().as_encoded_bytes();
    if bytes.contains(&b'\n') {
        Some("a newline")
    } else if bytes.contains(&b'\r') {
        Some("a carriage return")
    } else if bytes.contains(&b'\\') {
        Some("a backslash")
    } else if name.to_str().is_none() {
        Some("bytes that are not UTF-8")
    } else {
        None
    }
}

/// One line as `sha256sum` writes it: a name with a backslash or a line end is escaped and the
/// line begins with a backslash; all other bytes stand as they are.
pub(crate) fn sum_line(sum: &[u8], name: &Path) -> Vec<u8> {
    let name = name.as_os_str().as_encoded_bytes();
    let escaped = name
        .iter()
        .any(|byte| matches!(byte, b'\\' | b'\n' | b'\r'));
    let mut line = Vec::with_capacity(2 * sum.len() + name.len() + 4);
    if escaped {
        line.push(b'\\');
    }
    line.extend_from_slice(hex(sum).as_bytes());
    line.extend_from_slice(b"  ");
    for byte in name {
        match byte {
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            byte => line.push(*byte),
        }
    }
    line.push(b'\n');
    line
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// The name for a person, always on one line: quoted and escaped where it would not be.
pub(crate) fn for_people(name: &Path) -> String {
    match name.to_str() {
        Some(text) if !text.is_empty() && !text.contains(|c: char| c.is_control() || c == '\\') => {
            text.to_owned()
        }
        _ => format!("{name:?}"),
    }
}

/// `12.3 MB`, in powers of a thousand.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{for_people, oddity, size, sum_line};

    fn line(name: &str) -> String {
        String::from_utf8(sum_line(&[0xab, 0x01], Path::new(name))).expect("text in, text out")
    }

    #[test]
    fn a_plain_name_stands_as_it_is() {
        assert_eq!(line("./a b*ü"), "ab01  ./a b*ü\n");
        assert_eq!(oddity(Path::new("./a b*ü")), None);
    }

    #[test]
    fn backslash_and_line_ends_are_escaped_and_announced() {
        assert_eq!(line("a\nb"), "\\ab01  a\\nb\n");
        assert_eq!(line("a\\b"), "\\ab01  a\\\\b\n");
        assert_eq!(line("a\rb\\"), "\\ab01  a\\rb\\\\\n");
        assert_eq!(oddity(Path::new("a\nb")), Some("a newline"));
        assert_eq!(oddity(Path::new("a\\b")), Some("a backslash"));
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_not_utf_8_stand_verbatim() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let name = Path::new(OsStr::from_bytes(b"a\xffb"));
        assert_eq!(sum_line(&[0], name), b"00  a\xffb\n");
        assert_eq!(oddity(name), Some("bytes that are not UTF-8"));
        assert_eq!(for_people(name), "\"a\\xFFb\"");
    }

    #[test]
    fn a_diagnostic_stays_on_one_line() {
        assert_eq!(for_people(Path::new("dir/ü")), "dir/ü");
        assert_eq!(for_people(Path::new("a\nb")), "\"a\\nb\"");
        assert_eq!(for_people(Path::new("")), "\"\"");
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(12_345), "12.3 kB");
        assert_eq!(size(2_000_000_000), "2.00 GB");
    }
}
