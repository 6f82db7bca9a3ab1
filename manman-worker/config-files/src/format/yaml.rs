use manman_common::spec::FileValue;

use crate::Cause;

pub(crate) fn set(_text: &mut String, _key: &str, _value: &FileValue) -> Result<(), Cause> {
    Err(Cause::NotProven)
}
