//! What encoding/json says, word for word, against the golden texts.

use super::*;
use crate::wire::{ListArgs, NameArgs, ProfilesReply};
use proptest::prelude::*;

fn name(payload: &str) -> Result<String, String> {
    decode::<NameArgs>(payload.as_bytes())
        .map(|args| args.name)
        .map_err(|error| error.to_string())
}

#[test]
fn keys_are_read_the_way_of_go() {
    for (payload, expected) in [
        (r#"{"name":"a"}"#, "a"),
        (r#"{"NAME":"a"}"#, "a"),
        (r#"{"Name":"a","name":"b"}"#, "b"),
        (r#"{"name":"b","nAmE":"c"}"#, "c"),
        (r#"{"name":"a","name":null}"#, "a"),
        (r#" {"other":[{"x":1}],"name":"a"} "#, "a"),
        (r#"{"name":"\u0061"}"#, "a"),
        ("null", ""),
        ("{}", ""),
    ] {
        assert_eq!(name(payload), Ok(expected.to_owned()), "{payload}");
    }
}

#[test]
fn errors_are_worded_as_in_go() {
    for (payload, expected) in [
        ("", "unexpected end of JSON input"),
        ("  ", "unexpected end of JSON input"),
        ("{", "unexpected end of JSON input"),
        (r#"{"name":"a"#, "unexpected end of JSON input"),
        ("x", "invalid character 'x' looking for beginning of value"),
        (
            "\u{feff}{}",
            "invalid character 'ï' looking for beginning of value",
        ),
        (
            "{name:1}",
            "invalid character 'n' looking for beginning of object key string",
        ),
        (r#"{"name" 1}"#, "invalid character '1' after object key"),
        (
            r#"{"name":"a" "b"}"#,
            "invalid character '\"' after object key:value pair",
        ),
        (
            r#"{"name":"a",}"#,
            "invalid character '}' looking for beginning of object key string",
        ),
        ("[1 2]", "invalid character '2' after array element"),
        (
            "[1,]",
            "invalid character ']' looking for beginning of value",
        ),
        ("{} x", "invalid character 'x' after top-level value"),
        (
            "{\n\n x",
            "invalid character 'x' looking for beginning of object key string",
        ),
        (
            "{\"name\":\"a\n\"}",
            r"invalid character '\n' in string literal",
        ),
        (
            r#"{"name":"\x"}"#,
            "invalid character 'x' in string escape code",
        ),
        (
            "{'name':1}",
            r"invalid character '\'' looking for beginning of object key string",
        ),
        (
            "\0",
            r"invalid character '\x00' looking for beginning of value",
        ),
        (
            "[]",
            "json: cannot unmarshal array into Go value of type launcherapi.StartPluginArgs",
        ),
        (
            "\"certs\"",
            "json: cannot unmarshal string into Go value of type launcherapi.StartPluginArgs",
        ),
        (
            "true",
            "json: cannot unmarshal bool into Go value of type launcherapi.StartPluginArgs",
        ),
        (
            r#"{"name":1}"#,
            "json: cannot unmarshal number into Go struct field StartPluginArgs.name of type string",
        ),
        (
            r#"{"name":{}}"#,
            "json: cannot unmarshal object into Go struct field StartPluginArgs.name of type string",
        ),
    ] {
        assert_eq!(name(payload), Err(expected.to_owned()), "{payload}");
    }
    let error = decode::<ListArgs>(br#"{"onlyRunning":"yes"}"#).unwrap_err();
    assert_eq!(
        error.to_string(),
        "json: cannot unmarshal string into Go struct field ListArgs.onlyRunning of type bool"
    );
}

#[test]
fn what_is_no_text_or_too_long_is_refused() {
    assert_eq!(
        decode::<NameArgs>(b"{\"name\":\"\xff\"}"),
        Err(DecodeError::NotUtf8)
    );
    let long = vec![b' '; MAX_PAYLOAD + 1];
    assert_eq!(
        decode::<NameArgs>(&long),
        Err(DecodeError::TooLong {
            length: MAX_PAYLOAD + 1
        })
    );
    let deep = "[".repeat(100_000);
    assert!(decode::<NameArgs>(deep.as_bytes()).is_err());
}

#[test]
fn null_for_a_list_is_an_empty_one() {
    let reply: ProfilesReply = decode(br#"{"profiles":null}"#).unwrap();
    assert!(reply.profiles.is_empty());
}

#[test]
fn text_is_escaped_as_in_go() {
    let bytes = encode("<a>&\u{2028}\u{2029}\"\\\n\t\r\u{8}\u{c}\u{1}é/");
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        r#""\u003ca\u003e\u0026\u2028\u2029\"\\\n\t\r\u0008\u000c\u0001é/""#
    );
}

proptest! {
    #[test]
    fn garbage_never_panics(payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode::<NameArgs>(&payload);
        let _ = decode::<ProfilesReply>(&payload);
    }

    #[test]
    fn nearly_json_never_panics(payload in r#"[\[\]{}:,"a-z0-9 \\.enul\n-]{0,40}"#) {
        let _ = decode::<NameArgs>(payload.as_bytes());
        let _ = decode::<ProfilesReply>(payload.as_bytes());
    }

    #[test]
    fn what_is_written_is_read(text in any::<String>()) {
        let args = NameArgs { name: text };
        prop_assert_eq!(decode::<NameArgs>(&encode(&args)).unwrap(), args);
    }
}
