//! Path templates as OpenAPI writes them, `/pets/{petId}`, and which of several a path is.
//!
//! Pure. A path is cut at its slashes before it is decoded, so that `%2F` in a value is no slash.

use percent_encoding::percent_decode_str;

/// What a template's names stood for, decoded, in the order of the path.
pub type Params = Vec<(String, String)>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Name(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    segments: Vec<Vec<Piece>>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("`{0}` has a brace without its other half")]
    Brace(String),
    #[error("`{0}` has a name that is empty or stands twice")]
    Name(String),
    #[error("`{0}` has two names with nothing between them")]
    Touching(String),
    #[error("`{0}` is below `/_/`, which the stage keeps for itself")]
    Reserved(String),
    #[error("`{0}` has a character that a path can not have")]
    Character(String),
}

impl Template {
    /// With or without a slash at the front.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let text = if text.starts_with('/') { text.to_owned() } else { format!("/{text}") };
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '?' || c == '#') {
            return Err(TemplateError::Character(text));
        }
        if text == "/_" || text.starts_with("/_/") {
            return Err(TemplateError::Reserved(text));
        }
        let mut segments = Vec::new();
        let mut names: Vec<String> = Vec::new();
        for segment in text.split('/').skip(1) {
            segments.push(pieces(segment, &text, &mut names)?);
        }
        Ok(Self { text, segments })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The values of its names, if the path (not decoded, no query) is one of this template.
    pub fn matches(&self, path: &str) -> Option<Params> {
        let mut params = Vec::new();
        let mut segments = path.strip_prefix('/')?.split('/');
        for pieces in &self.segments {
            let segment = percent_decode_str(segments.next()?).decode_utf8().ok()?;
            if !match_pieces(pieces, &segment, &mut params) {
                return None;
            }
        }
        segments.next().is_none().then_some(params)
    }

    /// Less is tried first: at the first segment that differs, the more literal one wins.
    fn rank(&self) -> Vec<(usize, std::cmp::Reverse<usize>)> {
        let rank = |pieces: &Vec<Piece>| {
            let names = pieces.iter().filter(|piece| matches!(piece, Piece::Name(_))).count();
            let literal = pieces.iter().map(|piece| if let Piece::Literal(text) = piece { text.len() } else { 0 }).sum();
            (names, std::cmp::Reverse(if names == 0 { 0 } else { literal }))
        };
        self.segments.iter().map(rank).collect()
    }

    /// Whether both are the same but for the names.
    fn is_like(&self, other: &Self) -> bool {
        let same = |a: &Piece, b: &Piece| match (a, b) {
            (Piece::Literal(a), Piece::Literal(b)) => a == b,
            (Piece::Name(_), Piece::Name(_)) => true,
            (Piece::Literal(_), Piece::Name(_)) | (Piece::Name(_), Piece::Literal(_)) => false,
        };
        let mut both = self.segments.iter().zip(&other.segments);
        self.segments.len() == other.segments.len() && both.all(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)))
    }
}

fn pieces(segment: &str, whole: &str, names: &mut Vec<String>) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = segment;
    while !rest.is_empty() {
        let (literal, after) = rest.split_once('{').map_or((rest, None), |(literal, after)| (literal, Some(after)));
        if literal.contains('}') {
            return Err(TemplateError::Brace(whole.to_owned()));
        }
        if !literal.is_empty() {
            let literal = percent_decode_str(literal).decode_utf8().map_err(|_| TemplateError::Character(whole.to_owned()))?;
            pieces.push(Piece::Literal(literal.into_owned()));
        }
        let Some(after) = after else { break };
        let (name, after) = after.split_once('}').ok_or_else(|| TemplateError::Brace(whole.to_owned()))?;
        if name.contains('{') {
            return Err(TemplateError::Brace(whole.to_owned()));
        }
        if name.is_empty() || names.iter().any(|known| known == name) {
            return Err(TemplateError::Name(whole.to_owned()));
        }
        if matches!(pieces.last(), Some(Piece::Name(_))) {
            return Err(TemplateError::Touching(whole.to_owned()));
        }
        names.push(name.to_owned());
        pieces.push(Piece::Name(name.to_owned()));
        rest = after;
    }
    Ok(pieces)
}

/// A name takes the least that lets the rest match, and never nothing.
fn match_pieces(pieces: &[Piece], text: &str, params: &mut Params) -> bool {
    let Some((first, rest)) = pieces.split_first() else { return text.is_empty() };
    match first {
        Piece::Literal(literal) => text.strip_prefix(literal.as_str()).is_some_and(|text| match_pieces(rest, text, params)),
        Piece::Name(name) => {
            if rest.is_empty() {
                if !text.is_empty() {
                    params.push((name.clone(), text.to_owned()));
                }
                return !text.is_empty();
            }
            let known = params.len();
            for (end, _) in text.char_indices().skip(1) {
                params.push((name.clone(), text[..end].to_owned()));
                if match_pieces(rest, &text[end..], params) {
                    return true;
                }
                params.truncate(known);
            }
            false
        }
    }
}

/// Templates and what belongs to them; concrete ones are tried first.
#[derive(Debug)]
pub struct Router<T> {
    routes: Vec<(Template, T)>,
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self { routes: Vec::new() }
    }
}

impl<T> Router<T> {
    /// `Err` with the template that takes the very same paths.
    pub fn insert(&mut self, template: Template, value: T) -> Result<(), String> {
        if let Some((twin, _)) = self.routes.iter().find(|(other, _)| other.is_like(&template)) {
            return Err(twin.text.clone());
        }
        let place = self.routes.partition_point(|(other, _)| other.rank() <= template.rank());
        self.routes.insert(place, (template, value));
        Ok(())
    }

    pub fn find(&self, path: &str) -> Option<(&Template, &T, Params)> {
        self.routes.iter().find_map(|(template, value)| template.matches(path).map(|params| (template, value, params)))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Template, &T)> {
        self.routes.iter().map(|(template, value)| (template, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn router(templates: &[&str]) -> Router<String> {
        let mut router = Router::default();
        for text in templates {
            router.insert(Template::parse(text).expect("a template"), (*text).to_owned()).expect("no twin");
        }
        router
    }

    #[test]
    fn concrete_paths_come_first() {
        let router = router(&["/pets/{petId}", "/pets/mine", "get/pets", "/pets/{petId}.json", "/{any}/mine/{x}"]);
        let found = |path| router.find(path).map(|(_, text, params)| (text.as_str(), params));
        assert_eq!(found("/pets/mine").expect("it is").0, "/pets/mine");
        assert_eq!(found("/get/pets").expect("it is").0, "get/pets");
        assert_eq!(found("/pets/7.json").expect("it is"), ("/pets/{petId}.json", vec![("petId".into(), "7".into())]));
        assert_eq!(found("/pets/a%2Fb%20c").expect("it is").1, [("petId".to_owned(), "a/b c".to_owned())]);
        assert!(found("/pets/").is_none() && found("/pets").is_none() && found("/pets/1/2").is_none());
        assert!(found("/pets/%ff").is_none(), "what is no text is no value");
    }

    #[test]
    fn bad_templates_are_refused() {
        for text in ["/a{", "/a}", "/{}", "/{a}/{a}", "/{a}{b}", "/_/x", "/a b", "/{a{b}}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
        let mut router = router(&["/pets/{a}"]);
        assert_eq!(router.insert(Template::parse("/pets/{b}").expect("a template"), String::new()), Err("/pets/{a}".to_owned()));
    }

    proptest! {
        #[test]
        fn nothing_that_is_typed_panics(text in "\\PC{0,40}", path in "\\PC{0,40}") {
            if let Ok(template) = Template::parse(&text) {
                template.matches(&path);
            }
        }

        #[test]
        fn what_is_filled_in_comes_out(names in proptest::collection::vec("[a-z]{1,6}", 1..5), values in proptest::collection::vec("[^\0]{1,12}", 5)) {
            let template: String = names.iter().enumerate().map(|(i, name)| format!("/x{i}/{{{name}{i}}}")).collect();
            let path: String = values.iter().take(names.len()).enumerate().map(|(i, value)| {
                format!("/x{i}/{}", percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC))
            }).collect();
            let params = Template::parse(&template).expect("a template").matches(&path).expect("it matches");
            prop_assert_eq!(params.into_iter().map(|(_, value)| value).collect::<Vec<_>>(), values[..names.len()].to_vec());
        }
    }
}
