//! U5: what OpenAPI says is kept, in and out.

use crate::support::{Home, Stage};

const PATHS: &str = "  /pets:
    post:
      validate-in: true
      validate-out: true
      inject: {cmd: ./pet.sh, channel: stdin, encoding: raw, on-exit: stdout}
    get:
      validate-in: true
      inject: {cmd: 'true', on-exit: 204}
  /pets/{id}:
    get:
      validate-in: true
      inject: {cmd: 'true', on-exit: 204}
  /other:
    get: {inject: {cmd: 'true', on-exit: 204}}
";

fn petstore(text: &str, strict: bool) -> Result<Stage, (Option<i32>, String)> {
    let home = Home::new("openapi: petstore.yaml", PATHS);
    home.file("petstore.yaml", text);
    // Answers with the file that the test has put there.
    home.script("pet.sh", "cat > /dev/null; cat answer");
    home.file("answer", "{}");
    if strict { Err(home.refused(&["--strict"])) } else { Ok(home.start()) }
}

const PETSTORE: &str = include_str!("../files/petstore.yaml");
const GOOD: &str = r#"{"id": 1, "name": "Rex", "photoUrls": []}"#;

#[test]
fn u05_a_bad_body_is_400_with_a_pointer_and_a_bad_reply_is_502() {
    let stage = petstore(PETSTORE, false).unwrap_or_else(|(_, error)| panic!("{error}"));
    stage.home.file("answer", GOOD);
    let missing = stage.post("/pets", r#"{"photoUrls": []}"#).expect(400);
    assert_eq!((missing.header("content-type"), &missing.json()["pointer"]), (Some("application/problem+json"), &"/name".into()));
    // The id is read-only: a request need not have it, and a reply must.
    stage.post("/pets", r#"{"name": "Rex", "photoUrls": []}"#).expect(200);
    for (body, pointer) in [
        (r#"{"name": 7, "photoUrls": []}"#, "/name"),
        (r#"{"name": "a", "photoUrls": ["x", 1]}"#, "/photoUrls/1"),
        (r#"{"name": "a", "photoUrls": [], "age": 0}"#, "/age"),
        (r#"{"name": "a", "photoUrls": [], "category": {"id": "x"}}"#, "/category/id"),
        ("[]", ""),
    ] {
        assert_eq!(stage.post("/pets", body).expect(400).json()["pointer"], pointer, "{body}");
    }
    stage.post("/pets", r#"{"name": "a", "photoUrls": [], "nickname": null, "age": 0.1}"#).expect(200);
    stage.send("POST", "/pets", &[("content-type", "text/csv")], b"a").expect(415);
    stage.send("POST", "/pets", &[("content-type", "application/json")], b"").expect(400);
    stage.send("POST", "/pets", &[("content-type", "application/xml")], b"<pet/>").expect(200);
    stage
        .send("POST", "/pets", &[("content-type", "application/x-www-form-urlencoded")], b"name=Rex&photoUrls=a&photoUrls=b&age=2")
        .expect(200);
    let form = stage.send("POST", "/pets", &[("content-type", "application/x-www-form-urlencoded")], b"name=Rex&photoUrls=a&age=old");
    assert_eq!(form.expect(400).json()["pointer"], "/age");

    let good = r#"{"name": "Rex", "photoUrls": []}"#;
    for (answer, status) in [
        (GOOD, 200),
        (r#"{"name": "Rex", "photoUrls": []}"#, 502),
        ("not json", 502),
        ("", 502),
        ("Status: 404\n\n", 404),
        ("Status: 503\n\n", 502),
        ("Content-Type: text/html\n\n<p>", 502),
    ] {
        stage.home.file("answer", answer);
        stage.post("/pets", good).expect(status);
    }
    assert!(stage.log().contains("a reply is not what the OpenAPI file says"), "it is logged");
}

#[test]
fn u05_parameters_are_what_they_say() {
    let stage = petstore(PETSTORE, false).unwrap_or_else(|(_, error)| panic!("{error}"));
    for (path, status, pointer) in [
        ("/pets?limit=10", 204, ""),
        ("/pets", 400, "query/limit"),
        ("/pets?limit=many", 400, "query/limit"),
        ("/pets?limit=101", 400, "query/limit"),
        ("/pets?limit=1.5", 400, "query/limit"),
        ("/pets?limit=1&tag=ab&tag=cd", 204, ""),
        ("/pets?limit=1&tag=a", 400, "query/tag"),
        ("/pets/7", 204, ""),
        ("/pets/0", 400, "path/petId"),
        ("/pets/x", 400, "path/petId"),
    ] {
        let answer = stage.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        if status == 400 {
            assert_eq!(answer.json()["pointer"], pointer, "{path}");
        }
    }
    stage.send("GET", "/pets?limit=1", &[("x-flag", "true")], b"").expect(204);
    stage.send("GET", "/pets?limit=1", &[("x-flag", "yes")], b"").expect(400);
}

#[test]
fn u05_the_same_in_3_1_and_in_json() {
    let text = PETSTORE
        .replace("openapi: 3.0.3", "openapi: 3.1.0")
        .replace("{type: string, nullable: true}", "{type: [string, 'null']}")
        .replace("minimum: 0, exclusiveMinimum: true", "exclusiveMinimum: 0");
    let value: serde_json::Value = serde_saphyr::from_str(&text).expect("it is YAML");
    for text in [text, value.to_string()] {
        let stage = petstore(&text, false).unwrap_or_else(|(_, error)| panic!("{error}"));
        stage.home.file("answer", GOOD);
        assert_eq!(stage.post("/pets", r#"{"photoUrls": []}"#).expect(400).json()["pointer"], "/name");
        stage.post("/pets", r#"{"name": "a", "photoUrls": [], "nickname": null}"#).expect(200);
        stage.post("/pets", r#"{"name": "a", "photoUrls": [], "age": 0}"#).expect(400);
        stage.get("/pets/0").expect(400);
    }
}

#[test]
fn u05_a_path_that_the_document_lacks_is_a_warning_and_strict_makes_it_an_error() {
    let stage = petstore(PETSTORE, false).unwrap_or_else(|(_, error)| panic!("{error}"));
    assert!(stage.log().contains("GET /other is not in the OpenAPI file"));
    let Err((code, error)) = petstore(PETSTORE, true) else { panic!("it was to be refused") };
    assert_eq!(code, Some(78));
    assert!(error.contains("GET /other") && error.contains("--strict"), "{error}");
    for (broken, word) in [
        ("swagger: '2.0'\npaths: {}", "Swagger 2"),
        ("openapi: 4.0.0\npaths: {}", "4.0.0"),
        ("openapi: 3.0.0", "paths"),
        ("openapi: [", "petstore.yaml"),
        (&PETSTORE.replace("#/components/schemas/Category'", "#/components/schemas/Nothing'"), "Nothing"),
    ] {
        let home = Home::new("openapi: petstore.yaml", PATHS);
        home.script("pet.sh", "true");
        home.file("petstore.yaml", broken);
        let (code, error) = home.refused(&[]);
        assert_eq!(code, Some(78), "{error}");
        assert!(error.contains(word), "{word} in {error}");
    }
}
