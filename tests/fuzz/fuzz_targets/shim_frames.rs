#![no_main]
use libfuzzer_sys::fuzz_target;
use manman_fuzz::shim_proto::{Answer, FRAME_MAX, Notice, Request, split};

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Ok(Some((frame, size))) = split(rest) {
        assert!(size <= rest.len() && size <= FRAME_MAX + 4 && size >= 9);
        let mut written = Vec::new();
        if let Ok(request) = Request::decode(&frame) {
            request.encode(frame.id, &mut written);
            let (again, _) = split(&written).expect("it is sound").expect("and whole");
            assert_eq!((again.id, Request::decode(&again)), (frame.id, Ok(request)));
        }
        written.clear();
        if let Ok(answer) = Answer::decode(&frame) {
            answer.encode(frame.id, &mut written);
            let (again, _) = split(&written).expect("it is sound").expect("and whole");
            assert_eq!((again.id, Answer::decode(&again)), (frame.id, Ok(answer)));
        }
        written.clear();
        if let Ok(notice) = Notice::decode(&frame) {
            notice.encode(&mut written);
            let (again, _) = split(&written).expect("it is sound").expect("and whole");
            assert!(Notice::is_kind(again.kind));
            assert_eq!(Notice::decode(&again), Ok(notice));
        }
        rest = &rest[size..];
    }
});
