//! Somebody with a few scripts and no game: `manman-worker stage`, its examples, and `reply`.

use std::path::Path;
use std::time::Duration;

use manman_e2e::{Context, Program, Result, binary, ensure, story};
use tokio::process::Command;

#[test]
fn scripts_in_any_language_answer_requests() -> Result<()> {
    story(async {
        let dir = tempfile::tempdir()?;
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manman-worker/stage/examples");
        let worker = binary("manman-worker")?;
        let shipped = std::fs::read_to_string(examples.join("urocket-service.yaml"))?;
        let text = shipped
            .replace("port: 8080", "port: 0")
            .replace("/tmp/urocket-examples", &dir.path().display().to_string())
            .replace("wd: scripts", &format!("wd: {}", examples.join("scripts").display()));
        let limited = format!(
            "{text}  /reply:\n    get:\n      inject: {{cmd: [sh, -c, 'ulimit -n | {} reply --content-type text/plain'], limits: {{files: 64}}, timeout: 10000}}\n",
            worker.display()
        );
        let file = dir.path().join("urocket-service.yaml");
        std::fs::write(&file, limited)?;
        let mut command = Command::new(&worker);
        command.arg("stage").arg("-c").arg(&file).env("PATH", "/usr/local/bin:/usr/bin:/bin");
        let mut stage = Program::spawn("stage", &mut command)?;
        let ready = stage.line("ready", Duration::from_secs(20)).await?;
        let url = ready.split(' ').find(|word| word.starts_with("http://")).context("it names its address")?.to_owned();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build()?;
        for language in ["bash", "python", "php", "pool"] {
            let answer = client.post(format!("{url}/{language}")).body(r#"{"name": "Rex"}"#).send().await?;
            ensure!(answer.status() == 200 && answer.headers().contains_key("x-request-id"), "{language}: {answer:?}");
            let answer: serde_json::Value = serde_json::from_str(&answer.text().await?)?;
            ensure!(answer["got"]["name"] == "Rex", "{language}: {answer}");
        }
        let limited = client.get(format!("{url}/reply")).send().await?.text().await?;
        ensure!(limited == "64\n", "the worker's own executable sets limits: {limited}");
        Ok(())
    })
}
