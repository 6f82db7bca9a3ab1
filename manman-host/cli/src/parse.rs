//! Values of the command line, checked at the edge.

use std::time::Duration;

use manman_common::spec::Protocol;

/// `512MiB`, `2G`, `1500MB`, or bytes. As everywhere with memory, `M` and `MiB` are 1024 based.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let refuse = || format!("`{text}` is not a size; write `512MiB` or `2GiB`");
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(refuse()),
    };
    let bytes = if !number.contains('.') {
        number.parse::<u64>().ok().and_then(|whole| whole.checked_mul(factor)).ok_or_else(refuse)?
    } else {
        let fraction: f64 = number.parse().map_err(|_| refuse())?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "digits and a point are never negative, and a fraction of a byte is nobody's"
        )]
        let bytes = (fraction * factor as f64) as u64;
        bytes
    };
    if bytes == 0 { Err(refuse()) } else { Ok(bytes) }
}

/// Cores, as `1.5`, in thousandths.
pub(crate) fn cpu(text: &str) -> Result<u32, String> {
    let refuse = || format!("`{text}` is not a number of cores; write `2` or `1.5`");
    let cores: f64 = text.parse().map_err(|_| refuse())?;
    if !(0.01..=1024.0).contains(&cores) {
        return Err(refuse());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to lie between 0.01 and 1024")]
    Ok((cores * 1000.0).round() as u32)
}

/// `90`, `90s`, `5m`, `1h30m`, `250ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let refuse = || format!("`{text}` is not a duration; write `30s`, `5m` or `1h`");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refuse)?;
        let number: u64 = rest[..digits].parse().map_err(|_| refuse())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let millis: u64 = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(refuse()),
        };
        let part = number.checked_mul(millis).map(Duration::from_millis).ok_or_else(refuse)?;
        total = total.checked_add(part).ok_or_else(refuse)?;
        rest = &rest[letters..];
    }
    Ok(total)
}

/// `KEY=VALUE`; the value may be empty and may hold further `=`.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not of the form KEY=VALUE")),
    }
}

/// `game=27960`, `27960`, `rcon=27961/tcp`, `game=0` for any free one, `web=8081:80/tcp` with the port inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: Option<String>,
    pub(crate) port: u32,
    pub(crate) inside: Option<u32>,
    pub(crate) protocol: Option<Protocol>,
}

pub(crate) fn port(text: &str) -> Result<Port, String> {
    let refuse = || format!("`{text}` is not a port; write `game=27960`, `web=8081/tcp` or `web=8081:80/tcp`");
    let (name, rest) = match text.split_once('=') {
        Some(("", _)) => return Err(refuse()),
        Some((name, rest)) => (Some(name.to_owned()), rest),
        None => (None, text),
    };
    let (numbers, protocol) = match rest.split_once('/') {
        Some((numbers, "udp")) => (numbers, Some(Protocol::Udp)),
        Some((numbers, "tcp")) => (numbers, Some(Protocol::Tcp)),
        Some(_) => return Err(refuse()),
        None => (rest, None),
    };
    let (outside, inside) = match numbers.split_once(':') {
        Some((outside, inside)) => (outside, Some(inside.parse().map_err(|_| refuse())?)),
        None => (numbers, None),
    };
    // Whether a number can be a port is the host's to say, with the name of the field.
    Ok(Port { name, port: outside.parse().map_err(|_| refuse())?, inside, protocol })
}

/// Bytes for people: `1.5 GiB`.
pub(crate) fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit after the point")]
    let mut number = bytes as f64;
    let mut unit = 0;
    while number >= 1024.0 && unit + 1 < UNITS.len() {
        number /= 1024.0;
        unit += 1;
    }
    if unit == 0 || number >= 100.0 { format!("{number:.0} {}", UNITS[unit]) } else { format!("{number:.1} {}", UNITS[unit]) }
}

/// How long ago, or how long still: `3 s`, `5 min`, `2 h`, `9 d`.
pub(crate) fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("512MiB"), Ok(512 << 20));
        assert_eq!(size("1.5GiB"), Ok(3 << 29));
        assert_eq!(size("2g"), Ok(2 << 30));
        assert_eq!(size("1500MB"), Ok(1_500_000_000));
        assert_eq!(size("1073741824"), Ok(1 << 30));
        for bad in ["", "MiB", "12XB", "-1", "0", "1..5G", "99999999999999999999T"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(show_size(512 << 20), "512 MiB");
        assert_eq!(show_size(3 << 29), "1.5 GiB");
    }

    #[test]
    fn cores() {
        assert_eq!(cpu("1.5"), Ok(1500));
        assert_eq!(cpu("0.25"), Ok(250));
        for bad in ["", "0", "-1", "NaN", "inf", "many"] {
            assert!(cpu(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "s", "5x", "5m3", "-1s", "99999999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pairs() {
        assert_eq!(key_value("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(key_value("A="), Ok(("A".into(), String::new())));
        assert!(key_value("=b").is_err());
        assert!(key_value("A").is_err());
    }

    #[test]
    fn ports() {
        let named = |name: Option<&str>, number, inside, protocol| Port { name: name.map(str::to_owned), port: number, inside, protocol };
        assert_eq!(port("game=27960"), Ok(named(Some("game"), 27960, None, None)));
        assert_eq!(port("27960/udp"), Ok(named(None, 27960, None, Some(Protocol::Udp))));
        assert_eq!(port("web=8081:80/tcp"), Ok(named(Some("web"), 8081, Some(80), Some(Protocol::Tcp))));
        for bad in ["", "game=", "=1", "1/sctp", "game=x", "1:x"] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }
}
