//! The bytes of a file as text, and back to the same bytes.

use manman_common::spec::FileFormat;

use crate::Cause;

pub(crate) struct Text {
    pub(crate) body: String,
    encoding: Encoding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Utf8 {
        mark: bool,
    },
    /// Unreal saves a settings file so as soon as a name in it is not plain.
    Utf16 {
        big: bool,
    },
    /// No UTF-8 and no mark: one of the old one-byte encodings. Read byte by byte, so that each is
    /// written back as it was.
    Bytes,
}

const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

impl Text {
    pub(crate) fn decode(bytes: &[u8], format: FileFormat) -> Result<Self, Cause> {
        if let Some(rest) = bytes.strip_prefix(UTF8_MARK) {
            let body = std::str::from_utf8(rest).map_err(|_| Cause::NotUtf8)?;
            return Ok(Self { body: body.to_owned(), encoding: Encoding::Utf8 { mark: true } });
        }
        for (mark, big) in [(b"\xff\xfe", false), (b"\xfe\xff", true)] {
            if let Some(rest) = bytes.strip_prefix(mark) {
                let units: Vec<u16> = rest
                    .chunks(2)
                    .map(|pair| match *pair {
                        [a, b] if big => Ok(u16::from_be_bytes([a, b])),
                        [a, b] => Ok(u16::from_le_bytes([a, b])),
                        _ => Err(Cause::NotUtf8),
                    })
                    .collect::<Result<_, _>>()?;
                let body = String::from_utf16(&units).map_err(|_| Cause::NotUtf8)?;
                return Ok(Self { body, encoding: Encoding::Utf16 { big } });
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(body) => Ok(Self { body: body.to_owned(), encoding: Encoding::Utf8 { mark: false } }),
            Err(_) if is_by_lines(format) => {
                Ok(Self { body: bytes.iter().map(|byte| char::from(*byte)).collect(), encoding: Encoding::Bytes })
            }
            Err(_) => Err(Cause::NotUtf8),
        }
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, Cause> {
        match self.encoding {
            Encoding::Utf8 { mark } => {
                let mut bytes = if mark { UTF8_MARK.to_vec() } else { Vec::new() };
                bytes.extend_from_slice(self.body.as_bytes());
                Ok(bytes)
            }
            Encoding::Utf16 { big } => {
                let units = std::iter::once(0xfeff).chain(self.body.encode_utf16());
                Ok(units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect())
            }
            Encoding::Bytes => self.body.chars().map(|char| u8::try_from(char).map_err(|_| Cause::Encoding)).collect(),
        }
    }
}

/// The formats that say nothing about their encoding; the others are UTF-8 by their own rules.
const fn is_by_lines(format: FileFormat) -> bool {
    match format {
        FileFormat::Properties | FileFormat::Ini | FileFormat::Line => true,
        FileFormat::Json | FileFormat::Yaml | FileFormat::Toml | FileFormat::Xml => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_they_were() {
        let utf16 = |big: bool| -> Vec<u8> {
            "\u{feff}Name=Zoë\r\n".encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
        };
        for bytes in [b"a=1\n".to_vec(), b"\xef\xbb\xbfa=1\r\n".to_vec(), b"motd=\xa7aHi\n".to_vec(), utf16(true), utf16(false), Vec::new()]
        {
            assert_eq!(Text::decode(&bytes, FileFormat::Ini).unwrap().encode().unwrap(), bytes);
        }
        assert_eq!(Text::decode(&utf16(false), FileFormat::Ini).unwrap().body, "Name=Zoë\r\n");
    }

    #[test]
    fn what_can_not_be_text_is_refused() {
        assert!(matches!(Text::decode(b"\"\xa7\"", FileFormat::Json), Err(Cause::NotUtf8)));
        assert!(matches!(Text::decode(b"\xff\xfea", FileFormat::Ini), Err(Cause::NotUtf8)), "half a unit");
        assert!(matches!(Text::decode(b"\xff\xfe\x00\xd8", FileFormat::Ini), Err(Cause::NotUtf8)), "half a pair");
        assert!(matches!(Text::decode(b"\xef\xbb\xbf\xa7", FileFormat::Ini), Err(Cause::NotUtf8)), "a mark that lies");
        let mut text = Text::decode(b"\xa7", FileFormat::Line).unwrap();
        text.body.push('☃');
        assert!(matches!(text.encode(), Err(Cause::Encoding)));
    }
}
