//! The password in a setting: replaced when its role has another one, never shown.

use std::collections::BTreeMap;

use recovery::service::Form;
use zeroize::Zeroizing;

use super::forms::login;

/// The role that a value logs in as; `None`: it does not say.
///
/// # Errors
/// As [`login`]: the text has no such form.
pub(super) fn role(
    value: &str,
    form: Form,
    fields: &BTreeMap<String, String>,
) -> Result<Option<String>, String> {
    let found = login(value, form, fields)?.user.and_then(|range| value.get(range));
    let Some(user) = found else { return Ok(None) };
    match form {
        Form::Uri => decoded(user).map(Some),
        Form::Libpq | Form::Ado | Form::Json => Ok(Some(user.to_owned())),
    }
}

/// The value with another password where one stands; where none does (the application has it from
/// elsewhere, or needs none) it stays as it is.
///
/// # Errors
/// The text has no such form, or cannot hold such a password.
pub(super) fn with_password(
    value: &str,
    form: Form,
    fields: &BTreeMap<String, String>,
    password: &str,
) -> Result<Zeroizing<String>, String> {
    let mut out = Zeroizing::new(value.to_owned());
    let Some(range) = login(value, form, fields)?.password else { return Ok(out) };
    out.replace_range(range, &written(form, password)?);
    Ok(out)
}

/// The password as it stands in such a value. Around the value may be a line of an `.env` file, a
/// string of JSON, YAML: only a URI can hold what means something there.
fn written(form: Form, password: &str) -> Result<Zeroizing<String>, String> {
    if form == Form::Uri {
        return Ok(encoded(password));
    }
    let is_plain = |c: char| c.is_ascii_graphic() && !"\"'`\\$#;".contains(c);
    match password.chars().all(is_plain) {
        true => Ok(Zeroizing::new(password.to_owned())),
        false => Err(format!(
            "the new password holds characters that mean something in a value of form '{}': \
             expected ASCII without blanks, quotes, \\, $, # and ;",
            form.text()
        )),
    }
}

/// RFC 3986, 2.1: everything but the unreserved characters.
fn encoded(text: &str) -> Zeroizing<String> {
    // Room for all of it, so that no part stays where it was.
    let mut out = Zeroizing::new(String::with_capacity(text.len() * 3));
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                let digit = |nibble: u8| char::from(b"0123456789ABCDEF"[usize::from(nibble)]);
                out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
    out
}

fn decoded(text: &str) -> Result<String, String> {
    let wrong = || "the user's name is not percent-encoded".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit().ok_or_else(wrong)?, digit().ok_or_else(wrong)?);
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| wrong())?);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(form: Form, value: &str, password: &str, expect: &str) {
        let fields = BTreeMap::new();
        assert_eq!(role(value, form, &fields).unwrap().as_deref(), Some("a@b"), "{value}");
        let replaced = with_password(value, form, &fields, password).unwrap();
        assert_eq!(*replaced, expect);
        assert_eq!(*with_password(&replaced, form, &fields, password).unwrap(), expect, "again");
    }

    #[test]
    fn only_the_password_changes_in_every_form() {
        check(
            Form::Uri,
            "postgres://a%40b:old:p%40@db1:5432/shop?x=y",
            "n/e @ü",
            "postgres://a%40b:n%2Fe%20%40%C3%BC@db1:5432/shop?x=y",
        );
        check(Form::Uri, "postgres://a%40b@db1/shop", "new", "postgres://a%40b@db1/shop");
        check(
            Form::Libpq,
            "host=db1 user=a@b password='old \\' one' dbname=shop",
            "n=ew",
            "host=db1 user=a@b password='n=ew' dbname=shop",
        );
        check(
            Form::Ado,
            "Host=db1;User Id=a@b;Pwd=old=x;Database=shop",
            "n=ew",
            "Host=db1;User Id=a@b;Pwd=n=ew;Database=shop",
        );
        check(
            Form::Json,
            "{\"host\": \"db1\", \"username\": \"a@b\", \"password\": \"o\\\"ld\"}",
            "new",
            "{\"host\": \"db1\", \"username\": \"a@b\", \"password\": \"new\"}",
        );
    }

    #[test]
    fn what_a_form_cannot_hold_is_refused_without_showing_it() {
        for (form, value) in [
            (Form::Libpq, "host=a user=u password=prior"),
            (Form::Ado, "Host=a;Username=u;Password=prior"),
            (Form::Json, "{\"host\":\"a\",\"user\":\"u\",\"password\":\"prior\"}"),
        ] {
            for password in ["sec;ret", "sec ret", "sec'ret", "sec\"ret", "sec\\ret", "sécret"] {
                let error = with_password(value, form, &BTreeMap::new(), password).unwrap_err();
                assert!(!error.contains("sec") && !error.contains("prior"), "{error}");
            }
        }
    }
}
