//! No bytes whatever make a decoder panic, or read more than there is.

use bytes::BytesMut;
use proptest::prelude::*;

use super::super::packets::Packet;
use super::super::telnet::{Negotiation, asks_for_password};
use super::super::{Collected, quake3, web};

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..most)
}

proptest! {
    #[test]
    fn a_packet_survives_its_bytes_in_any_pieces(id in any::<i32>(), kind in any::<i32>(), text in "[^\0]{0,300}", cut in 0usize..400) {
        let packet = Packet { id, kind, body: text.into_bytes() };
        let whole = [packet.encode(), packet.encode()].concat();
        let cut = cut.min(whole.len());
        let mut buffer = BytesMut::from(&whole[..cut]);
        let mut found = Vec::new();
        while let Some(packet) = Packet::take(&mut buffer).expect("it is sound") {
            found.push(packet);
        }
        buffer.extend_from_slice(&whole[cut..]);
        while let Some(packet) = Packet::take(&mut buffer).expect("it is sound") {
            found.push(packet);
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(&found, &[Packet { id, kind, body: packet.body.clone() }, packet]);
    }

    #[test]
    fn garbage_is_no_packet_or_an_error(garbage in bytes(300)) {
        let mut buffer = BytesMut::from(&garbage[..]);
        while let Ok(Some(packet)) = Packet::take(&mut buffer) {
            prop_assert!(packet.body.len() <= garbage.len());
        }
    }

    #[test]
    fn telnet_text_is_the_same_in_any_pieces(stream in proptest::collection::vec(prop_oneof![any::<u8>(), 240u8..=255], 0..300), cut in 0usize..300) {
        let cut = cut.min(stream.len());
        let whole = Negotiation::default().strip(&stream);
        let mut negotiation = Negotiation::default();
        let pieces = [negotiation.strip(&stream[..cut]), negotiation.strip(&stream[cut..])].concat();
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn no_reply_does_harm(reply in bytes(600), secret in ".{0,8}") {
        let mut collected = Collected::default();
        collected.push(&reply);
        for line in collected.lines(Some(&secret).filter(|secret| !secret.is_empty()).map(String::as_str)) {
            prop_assert!(!line.contains(|c: char| c.is_control() && c != '\t'));
        }
        let _ = (collected.ends_with_prompt(), asks_for_password(&reply), quake3::print(&reply), web::status(&reply));
        let _ = web::Frame::parse(&String::from_utf8_lossy(&reply));
    }
}

#[test]
fn negotiation_is_left_out() {
    let stream = b"a\xff\xfb\x01b\xff\xff\xff\xfa\x18\x00\xff\xffx\xff\xf0c\xff\xf1d";
    assert_eq!(Negotiation::default().strip(stream), b"ab\xffcd");
}

#[test]
fn frames_of_the_web_console() {
    let frame = web::Frame::parse(r#"{"Message":"hi","Identifier":1001,"Type":"Generic","Stacktrace":""}"#).expect("a frame");
    assert_eq!((frame.identifier, frame.message.as_str()), (1001, "hi"));
    for odd in ["", "7", r#"{"Identifier":"x"}"#, r#"{"Message":7}"#] {
        assert!(web::Frame::parse(odd).is_none(), "{odd}");
    }
    assert_eq!(web::path("a/b c?"), "a%2Fb%20c%3F");
}
