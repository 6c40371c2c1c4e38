//! A lenient parser for `multipart/form-data`.
//! No library is used, because clients send bodies that libraries reject: boundaries with spaces, slashes and
//! colons (2captcha-csharp), part names without quotes and `text/plain` part headers (.NET), files named `file` without
//! an extension (2captcha-php), bare line feeds. The caller has read the whole body and bounded its size; file parts
//! are slices of it, not copies.

use bytes::Bytes;
use memchr::memmem;

use crate::domain::Failure;

/// Most bytes of one part's headers. Those of real clients are below 300.
const PART_HEADER_BYTES_MAX: usize = 8 * 1024;

/// One part of the body.
#[derive(Debug)]
pub(super) struct Part {
    /// Name of the form field.
    pub(super) name: String,
    /// Whether it has a file name.
    pub(super) is_file: bool,
    /// Content of the part.
    pub(super) bytes: Bytes,
}

/// Splits a body into its parts.
///
/// # Errors
/// [`Failure::Upload`] if the boundary is missing, the body is truncated, a part has no name, or there are more than
/// `parts_max` parts.
pub(super) fn parse(content_type: &str, body: &Bytes, parts_max: usize) -> Result<Vec<Part>, Failure> {
    let boundary = find_parameter(content_type, "boundary").filter(|text| !text.is_empty()).ok_or(Failure::Upload)?;
    let delimiter = [b"\n--", boundary.as_bytes()].concat();
    let opening = delimiter.get(1..).unwrap_or_default();
    let mut at = if body.starts_with(opening) {
        opening.len()
    } else {
        memmem::find(body, &delimiter).ok_or(Failure::Upload)? + delimiter.len()
    };
    let mut parts = Vec::new();
    loop {
        let rest = body.get(at..).unwrap_or_default();
        if rest.starts_with(b"--") {
            return Ok(parts);
        }
        if parts.len() == parts_max {
            return Err(Failure::Upload);
        }
        let rest = rest.get(first_line_len(rest).ok_or(Failure::Upload)?..).unwrap_or_default();
        let length = memmem::find(rest, &delimiter).ok_or(Failure::Upload)?;
        let content = rest.get(..length).unwrap_or_default();
        at = body.len() - rest.len() + length + delimiter.len();
        // The line break before a delimiter belongs to the delimiter.
        parts.push(parse_part(body, content.strip_suffix(b"\r").unwrap_or(content))?);
    }
}

fn parse_part(body: &Bytes, content: &[u8]) -> Result<Part, Failure> {
    let mut name = None;
    let mut is_file = false;
    let mut rest = content;
    loop {
        let end = first_line_len(rest).ok_or(Failure::Upload)?;
        let (line, tail) = rest.split_at(end);
        rest = tail;
        let line = String::from_utf8_lossy(line.trim_ascii()).into_owned();
        if line.is_empty() {
            break;
        }
        if content.len() - rest.len() > PART_HEADER_BYTES_MAX {
            return Err(Failure::Upload);
        }
        let Some((header, value)) = line.split_once(':') else { continue };
        if header.trim().eq_ignore_ascii_case("content-disposition") {
            name = find_parameter(value, "name");
            is_file = find_parameter(value, "filename").is_some() || find_parameter(value, "filename*").is_some();
        }
    }
    Ok(Part { name: name.ok_or(Failure::Upload)?, is_file, bytes: body.slice_ref(rest) })
}

/// Returns a parameter of a header value, quoted or not. Inside quotes, a backslash escapes the next character.
fn find_parameter(header: &str, wanted: &str) -> Option<String> {
    let (_, mut rest) = header.split_once(';')?;
    loop {
        let (name, tail) = rest.split_once('=')?;
        let (value, tail) = split_value(tail.trim_start());
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = tail.trim_start().strip_prefix(';')?;
    }
}

/// Splits off the first value and returns it with the rest of the text.
fn split_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        let (value, tail) = text.split_at(end);
        return (value.trim().to_owned(), tail);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => value.push(c),
        }
    }
    (value, "")
}

/// Returns the length of the first line, including its line feed.
fn first_line_len(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_texts(content_type: &str, body: &str) -> Result<Vec<(String, bool, String)>, Failure> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let parts = parse(content_type, &body, 4)?;
        Ok(parts
            .into_iter()
            .map(|part| (part.name, part.is_file, String::from_utf8_lossy(&part.bytes).into_owned()))
            .collect())
    }

    #[test]
    fn dotnet_boundaries_and_unquoted_names_are_parsed() {
        let parts = parse_texts(
            "multipart/form-data; boundary=\"Upload----11/22/2026 15:16:51\"",
            "--Upload----11/22/2026 15:16:51\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Disposition: form-data; name=key\r\n\r\nK\r\n--Upload----11/22/2026 15:16:51\r\n\
             Content-Disposition: form-data; name=file; filename=a.jpg; filename*=utf-8''a.jpg\r\n\r\n\
             line\r\nline\r\n--Upload----11/22/2026 15:16:51--\r\n",
        );
        let expected = vec![
            (String::from("key"), false, String::from("K")),
            (String::from("file"), true, String::from("line\r\nline")),
        ];
        assert_eq!(parts, Ok(expected));
    }

    #[test]
    fn empty_parts_bare_line_feeds_and_escapes_are_parsed() {
        let parts = parse_texts(
            "multipart/form-data; charset=utf-8; boundary=x",
            "preamble\n--x\nContent-Disposition: form-data; name=\"a\\\"b;c\"\n\n\n--x--",
        );
        assert_eq!(parts, Ok(vec![(String::from("a\"b;c"), false, String::new())]));
    }

    #[test]
    fn truncated_unnamed_and_excess_parts_are_refused() {
        let whole = "--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x--";
        assert!(parse_texts("multipart/form-data; boundary=x", whole).is_ok());
        for end in 0..whole.len() - 2 {
            assert_eq!(
                parse_texts("multipart/form-data; boundary=x", &whole[..end]),
                Err(Failure::Upload),
                "cut at {end}"
            );
        }
        assert_eq!(parse_texts("multipart/form-data", whole), Err(Failure::Upload));
        assert_eq!(parse_texts("multipart/form-data; boundary=", whole), Err(Failure::Upload));
        assert_eq!(
            parse_texts("multipart/form-data; boundary=x", "--x\r\nA: b\r\n\r\n1\r\n--x--"),
            Err(Failure::Upload)
        );
        let many = "--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n".repeat(5) + "--x--";
        assert_eq!(parse_texts("multipart/form-data; boundary=x", &many), Err(Failure::Upload));
    }
}
