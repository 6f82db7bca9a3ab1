use crate::Cause;

pub(crate) fn set(_text: &mut String, _key: &str, _value: &str) -> Result<(), Cause> {
    Err(Cause::NotProven)
}
