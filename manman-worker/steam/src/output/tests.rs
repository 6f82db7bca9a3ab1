use super::*;
use proptest::prelude::*;

fn step(name: &str, percent: f32, done: u64, total: u64) -> Line {
    Line::Progress(Step { name: name.to_owned(), percent, done, total })
}

#[test]
fn progress_is_read_in_every_form_seen() {
    for (text, expected) in [
        (" Update state (0x61) downloading, progress: 45.12 (1234 / 5678)", step("downloading", 45.12, 1234, 5678)),
        (" Update state (0x3) reconfiguring, progress: 0,00 (0 / 0)", step("reconfiguring", 0.0, 0, 0)),
        (
            " Update state (0x5) verifying install, progress: 24.38 (157716044 / 647021625)",
            step("verifying install", 24.38, 157_716_044, 647_021_625),
        ),
        (
            " Update state (0x11) preallocating, progress: 94.79 (35061964929 / 36990445921)",
            step("preallocating", 94.79, 35_061_964_929, 36_990_445_921),
        ),
        ("Waiting for confirmation... Update state (0x61) downloading, progress: 4.28 (3 / 7)", step("downloading", 4.28, 3, 7)),
        ("Update state (0x61) downloading, progress: 250.00 (3 / 7)", step("downloading", 100.0, 3, 7)),
        ("Update state (0x61) downloading, progress: inf (3 / 7)", Line::Other),
        ("Update state (0x61) downloading, progress: 1.0 (-3 / 7)", Line::Other),
        ("Update state (0x61)", Line::Other),
    ] {
        assert_eq!(Line::parse(text), expected, "{text}");
    }
}

#[test]
fn ends_are_told_apart() {
    for (text, expected) in [
        ("Success! App '896660' fully installed.", Line::Success(896_660)),
        ("Success! App '740' already up to date.", Line::Success(740)),
        ("Success! App '99999999999' fully installed.", Line::Other),
        ("Error! App '740' state is 0x202 after update job.", Line::AppState(0x202)),
        ("Error! State is 0x602 after update job.", Line::AppState(0x602)),
        ("Error! App '90' state is 0xE after update job.", Line::AppState(0xE)),
        ("Error! App '1' state is 0xFFFFFFFFFF after update job.", Line::Other),
        ("ERROR! Failed to install app '896660' (No subscription)", Line::InstallFailed("No subscription".to_owned())),
        (
            "ERROR! Failed to install app '1' (Missing configuration)app_update 1quit",
            Line::InstallFailed("Missing configuration".to_owned()),
        ),
        ("ERROR! Timed out waiting for AppInfo update.", Line::InstallFailed("Timed out waiting for AppInfo update".to_owned())),
        ("Error! Disk write failure", Line::InstallFailed("Disk write failure".to_owned())),
        ("Logging in user 'x' [U:1:0] to Steam Public...ERROR (Invalid Password)", Line::LoginFailed("Invalid Password".to_owned())),
        (
            "FAILED (No cached credentials and @NoPromptForPassword is set)",
            Line::LoginFailed("No cached credentials and @NoPromptForPassword is set".to_owned()),
        ),
        ("FAILED login with result code Two-factor code mismatch", Line::LoginFailed("Two-factor code mismatch".to_owned())),
        ("Login Failure: Rate Limit Exceeded", Line::LoginFailed("Rate Limit Exceeded".to_owned())),
        ("Waiting for user info...OK", Line::LoggedIn),
        ("Steam Console Client (c) Valve Corporation - version 1782532820", Line::Banner("1782532820".to_owned())),
        ("[ 71%] Downloading update (17,692 of 29,709 KB)...", Line::SelfUpdate(Some(71))),
        ("[  0%] Checking for available updates...", Line::SelfUpdate(Some(0))),
        ("[----] Verifying installation...", Line::Other),
        ("Loading Steam API...OK", Line::Other),
    ] {
        assert_eq!(Line::parse(text), expected, "{text}");
    }
}

#[test]
fn refusals_get_their_names() {
    for (reason, failure) in [
        ("Invalid Password", Failure::InvalidPassword),
        ("Rate Limit Exceeded", Failure::RateLimit),
        ("Rate Limit Exceeded (84)", Failure::RateLimit),
        ("Account logon denied, need two-factor code", Failure::GuardNeeded),
        ("Invalid Login Auth Code", Failure::GuardNeeded),
        ("No cached credentials and @NoPromptForPassword is set", Failure::LoginExpired),
        ("Expired", Failure::LoginExpired),
        ("No Connection", Failure::NoConnection),
        ("Timeout", Failure::NoConnection),
        ("Service Unavailable", Failure::NoConnection),
    ] {
        assert_eq!(login_failure(reason), failure, "{reason}");
    }
    for (reason, failure) in [
        ("No subscription", Failure::NoSubscription),
        ("Invalid platform", Failure::InvalidPlatform),
        ("Missing configuration", Failure::MissingConfiguration),
        ("Disk write failure", Failure::DiskFull),
        ("Timed out waiting for AppInfo update", Failure::NoConnection),
        ("something new", Failure::Unexplained),
    ] {
        assert_eq!(install_failure(reason), failure, "{reason}");
    }
    assert_eq!(state_words(0x202), "update required, update paused");
    assert_eq!(state_words(0), "no state");
}

#[test]
fn bytes_become_lines() {
    let mut lines = Lines::default();
    assert!(lines.push(b"Loading Steam API...\x1b[0m").is_empty());
    assert_eq!(
        lines.push(b"OK\r\n\x1b[0m\r\nbad \xff\xfe\x07byte\r two\nfour"),
        ["Loading Steam API...OK", "bad \u{fffd}\u{fffd}byte", " two"]
    );
    assert_eq!(lines.partial(), "four");
    lines.forget_partial();
    assert_eq!(lines.partial(), "");
}

#[test]
fn prompts_stand_without_a_line_s_end() {
    let mut lines = Lines::default();
    assert_eq!(lines.push(b"Cached credentials not found.\r\n\r\npassword: "), ["Cached credentials not found."]);
    assert_eq!(Prompt::of(&lines.partial()), Some(Prompt::Password));
    assert_eq!(Prompt::of("Steam Guard code:"), Some(Prompt::MailCode));
    assert_eq!(Prompt::of("Two-factor code:"), Some(Prompt::AppCode));
    assert_eq!(Prompt::of("password: x"), None);
}

#[test]
fn a_line_without_end_is_cut() {
    let mut lines = Lines::default();
    let cut = lines.push(&vec![b'x'; 3 * LINE_MAX + 5]);
    assert_eq!(cut.len(), 3);
    assert!(cut.iter().all(|line| line.len() == LINE_MAX));
    assert_eq!(lines.partial().len(), 5);
}

proptest! {
    #[test]
    fn no_bytes_break_it(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
        let mut lines = Lines::default();
        for chunk in chunks {
            for line in lines.push(&chunk) {
                let _ = Line::parse(&line);
            }
            let _ = Prompt::of(&lines.partial());
        }
    }

    #[test]
    fn however_it_is_cut_the_lines_are_the_same(text in "[ -~\n\r]{0,300}", at in 0usize..300) {
        let bytes = text.as_bytes();
        let at = at.min(bytes.len());
        let mut whole = Lines::default();
        let mut halves = Lines::default();
        let expected = whole.push(bytes);
        let mut found = halves.push(&bytes[..at]);
        found.extend(halves.push(&bytes[at..]));
        prop_assert_eq!(expected, found);
    }

    #[test]
    fn near_misses_break_nothing(
        head in prop::sample::select(vec!["Update state (0x", "Success! App '", "state is 0x", "ERROR! Failed to install app", "FAILED (", "Login Failure:", "["]),
        tail in "\\PC{0,60}",
    ) {
        if let Line::Progress(step) = Line::parse(&format!("{head}{tail}")) {
            prop_assert!((0.0..=100.0).contains(&step.percent));
        }
    }
}
