//! Small formats: names, durations, image references.

/// Whether `name` may name a stage: `[A-Za-z0-9][A-Za-z0-9_.-]{0,62}`.
pub fn is_stage_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 63
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// `[A-Za-z_][A-Za-z0-9_-]{0,62}`: inputs and axes.
pub(super) fn is_identifier(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(is_word_or_dash)
}

/// `[A-Za-z_][A-Za-z0-9_]{0,127}`: variables and secrets.
pub(super) fn is_variable(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`: a name other containers can resolve.
pub(super) fn is_host(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn is_word_or_dash(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'-'
}

/// Seconds of `1h30m`, `20m`, `5s`, `250ms`; units from large to small, each at most once.
pub fn parse_duration(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 5] = [("d", 86_400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001)];
    let mut rest = text.trim();
    let mut next_unit = 0;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|at| *at > 0)?;
        let amount: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let length = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = UNITS.iter().position(|(unit, _)| *unit == &rest[..length]).filter(|unit| *unit >= next_unit)?;
        seconds += amount * UNITS[unit].1;
        next_unit = unit + 1;
        rest = &rest[length..];
    }
    (next_unit > 0).then_some(seconds)
}

/// Whether `text` is `[HOST[:PORT]/]PATH[:TAG][@sha256:HEX]`.
pub fn is_image(text: &str) -> bool {
    if text.is_empty() || text.len() > 255 {
        return false;
    }
    let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
    if digest.is_some_and(|d| !is_digest(d)) {
        return false;
    }
    // A colon after the last slash starts the tag; one before it belongs to the registry's port.
    let last = name.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match name[last..].find(':') {
        Some(colon) => (&name[..last + colon], Some(&name[last + colon + 1..])),
        None => (name, None),
    };
    tag.is_none_or(is_tag) && is_image_path(path)
}

fn is_digest(digest: &str) -> bool {
    digest.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn is_image_path(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let has_host = parts.len() > 1 && (parts[0].contains(['.', ':']) || parts[0] == "localhost");
    let names = if has_host { &parts[1..] } else { &parts[..] };
    (!has_host || is_registry(parts[0])) && names.iter().all(|part| is_image_part(part))
}

fn is_registry(host: &str) -> bool {
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let labels = name.split('.').all(|label| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    });
    labels && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn is_image_part(part: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    part.starts_with(edge) && part.ends_with(edge) && part.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_units() {
        let cases = [("5s", Some(5.0)), ("20m", Some(1200.0)), ("1h30m", Some(5400.0)), ("72h", Some(259_200.0))];
        for (text, seconds) in
            cases.into_iter().chain([("500ms", Some(0.5)), ("1.5h", Some(5400.0)), ("2d", Some(172_800.0))])
        {
            assert_eq!(parse_duration(text), seconds, "{text}");
        }
        for text in ["", "5", "m", "5x", "-5s", "30m1h", "5s5s", "1..5s", "5 s", "５s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn images_are_told_from_options_and_urls() {
        let sha = format!("rust@sha256:{}", "a".repeat(64));
        for image in ["rust", "rust:latest", "ghcr.io/acme/ci:1.2", "localhost:5000/x", "a/b/c:v_1", sha.as_str()] {
            assert!(is_image(image), "{image}");
        }
        let long = "a".repeat(300);
        for image in
            ["-v/:/h", "a b", "docker://x", "", "Rust", "rust:", "rust@sha256:1", "/x", "a//b", "x:tag/y", &long]
        {
            assert!(!is_image(image), "{image}");
        }
    }
}
