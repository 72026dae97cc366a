//! What only a server should see, taken out of what people see.
//!
//! Whatever may quote a URL goes through [`redacted`] before it is printed: errors, findings, messages and
//! drawings. User and password of a URL, and the parts of its query that sign it, are nobody else's.

use std::borrow::Cow;

/// Parts of a query that are secrets, by words of their names.
const SECRETS: [&str; 7] = [
    "credential",
    "key",
    "password",
    "secret",
    "sig",
    "token",
    "passwd",
];

/// The text with `***` in the place of user and password of each URL in it, and of a query with a secret.
#[must_use]
pub fn redacted(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        out.push_str(before);
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>');
        let (url, behind) = behind.split_at(behind.find(ends).unwrap_or(behind.len()));
        let host = behind_login(url);
        if host.len() < url.len() {
            out.push_str("***@");
        }
        match host.split_once('?').filter(|(_, query)| is_secret(query)) {
            Some((path, _)) => out.extend([path, "?***"]),
            None => out.push_str(host),
        }
        rest = behind;
    }
    out.push_str(rest);
    match out == text {
        true => Cow::Borrowed(text),
        false => Cow::Owned(out),
    }
}

/// What is behind user and password, where the rest of a URL begins with them.
fn behind_login(url: &str) -> &str {
    let end = url.find(['/', '?', '#']).unwrap_or(url.len());
    let authority = &url[..end];
    if let Some(at) = authority.rfind('@') {
        return &url[at + 1..];
    }
    // A password may hold what ends the authority; behind the colon of a host stands a number.
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    let is_number = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let is_login = !url.starts_with('[') && port.is_some_and(|port| !is_number(port));
    let at = url.rfind('@').filter(|_| is_login);
    at.map_or(url, |at| &url[at + 1..])
}

fn is_secret(query: &str) -> bool {
    let mut names = query.split('&').filter_map(|part| part.split('=').next());
    names.any(|name| {
        let name = name.to_ascii_lowercase();
        SECRETS.iter().any(|secret| name.contains(secret))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_sees_a_login_or_a_signature() {
        for (text, expected) in [
            ("https://user:pw@host/a", "https://***@host/a"),
            (
                "cannot open \"s3://KEY:SE/CR@bucket/in\": no",
                "cannot open \"s3://***@bucket/in\": no",
            ),
            ("http://token@host", "http://***@host"),
            (
                "https://u:p@ss@host:80/x a://b:c@d",
                "https://***@host:80/x a://***@d",
            ),
            (
                "https://h/a?X-Amz-Signature=1&b=2 end",
                "https://h/a?*** end",
            ),
            ("https://u:p@h?sig=1", "https://***@h?***"),
        ] {
            assert_eq!(redacted(text), expected);
        }
        for plain in [
            "s3://bucket/in/a@b.csv",
            "http://127.0.0.1:9000/b/a@b?list-type=2&prefix=in",
            "http://[::1]/a@b",
            "mail a@b, user:pw@host, https://h/a?b=2",
            "://",
            "",
        ] {
            assert!(matches!(redacted(plain), Cow::Borrowed(_)), "{plain}");
        }
    }
}
