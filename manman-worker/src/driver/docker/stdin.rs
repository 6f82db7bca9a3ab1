//! Lines for a game's console: one attachment per container, which carries stdin and nothing else.
//!
//! An attachment that carried output, too, and was not read would freeze the game.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::query_parameters::AttachContainerOptionsBuilder;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::engine::{Engine, short};
use super::error;
use crate::driver::DriverError;

/// For the game to take a line: it may be loading a world, but a pipe holds 64 KiB of lines anyway.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// Held while a line is written, so that two lines never mix.
type Console = Arc<tokio::sync::Mutex<Option<Input>>>;

#[derive(Default)]
pub(super) struct Consoles(Mutex<HashMap<String, Console>>);

impl Consoles {
    pub(super) async fn write_line(&self, engine: &Engine, container: &str, line: &str) -> Result<(), DriverError> {
        let console = self.of(container);
        let mut console = console.lock().await;
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        // Taken out while it is used: a call that is dropped half-way leaves no half-used one behind.
        if let Some(mut input) = console.take() {
            match tokio::time::timeout(WRITE_TIMEOUT, write(&mut input, &bytes)).await {
                Ok(Ok(())) => {
                    *console = Some(input);
                    return Ok(());
                }
                // The engine has hung up (it was restarted, say): nothing of the line was taken.
                Ok(Err(_)) => {}
                Err(_) => return Err(too_slow(container)),
            }
        }
        let mut input = attach(engine, container).await?;
        match tokio::time::timeout(WRITE_TIMEOUT, write(&mut input, &bytes)).await {
            Ok(Ok(())) => {
                *console = Some(input);
                Ok(())
            }
            Ok(Err(source)) => Err(error::retry(format!("the console of container {} does not take a line", short(container)), source)),
            Err(_) => Err(too_slow(container)),
        }
    }

    fn of(&self, container: &str) -> Console {
        let mut consoles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(consoles.entry(container.to_owned()).or_default())
    }

    pub(super) fn forget(&self, container: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
    }
}

async fn write(input: &mut Input, bytes: &[u8]) -> std::io::Result<()> {
    input.write_all(bytes).await?;
    input.flush().await
}

fn too_slow(container: &str) -> DriverError {
    error::retry_because(format!("the game in container {} has not taken the line within {} s", short(container), WRITE_TIMEOUT.as_secs()))
}

async fn attach(engine: &Engine, container: &str) -> Result<Input, DriverError> {
    // The engine attaches to a dead container, too, and what is written then goes nowhere.
    if !engine.is_running(container).await? {
        return Err(error::gone(format!("container {} does not run", short(container))));
    }
    let options = AttachContainerOptionsBuilder::new().stdin(true).stream(true).build();
    let attached = engine.docker().await?.attach_container(container, Some(options)).await;
    let attached = attached
        .map_err(|source| error::of_container(format!("the console of container {} is not to be had", short(container)), source))?;
    Ok(attached.input)
}
