//! From a spec to a running container, and away again.

use std::path::PathBuf;

use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use manman_common::{InstanceId, ServerId, ServerSpec, SessionEpoch};
use manman_shim::lock::Held;
use manman_worker_core::{Instance, InstanceRef};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::engine::short;
use super::fields::Fields;
use super::image::Wanted;
use super::{DockerDriver, container_of, create, error, files, image, volumes};
use crate::driver::shim::{blocking, fence};
use crate::driver::{DriverError, DriverErrorKind, ProgressSink};

impl DockerDriver {
    pub(super) async fn start_instance(&self, spec: &ServerSpec, instance: InstanceId) -> Result<InstanceRef, DriverError> {
        let fields = Fields::new(self.config.worker, spec, instance);
        let (id, fence) = match self.adopt(&fields).await? {
            // Its shim holds the lock, or is about to.
            Some(id) if self.box_of(spec.id, instance)?.is_some() => (id, None),
            Some(id) => (id, Some(self.fence(spec, instance).await?)),
            None => {
                let fence = self.fence(spec, instance).await?;
                (self.create(spec, &fields).await?, Some(fence))
            }
        };
        let is_boxed = self.box_of(spec.id, instance)?.is_some();
        // The shim in the container is about to take the lock itself.
        let fence = fence.filter(|_| !is_boxed);
        if let Err(source) = self.engine.docker().await?.start_container(&id, None).await {
            let failed = start_error(spec, source);
            self.clear_refused(spec.id, instance, &id).await;
            return Err(failed);
        }
        drop(fence);
        if let Some(refused) = self.box_begun(spec, instance, &id).await? {
            self.clear_refused(spec.id, instance, &id).await;
            return Err(refused);
        }
        Ok(InstanceRef::Container(id))
    }

    /// Nothing half-made is left; if it can not be removed now, `list` shows it as created.
    async fn clear_refused(&self, server: ServerId, instance: InstanceId, id: &str) {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        self.drop_box(server, instance).await;
        if let Ok(docker) = self.engine.docker().await
            && let Err(source) = docker.remove_container(id, Some(options)).await
        {
            tracing::warn!(server.id = %server, container.id = %id, error = %error::message(&source), "a container that did not start could not be removed");
        }
    }

    async fn fence(&self, spec: &ServerSpec, instance: InstanceId) -> Result<Held, DriverError> {
        let (dir, spec) = (self.server_dir(spec.id), spec.clone());
        blocking(move || fence::hold(&dir, &spec, &instance.to_string())).await
    }

    async fn create(&self, spec: &ServerSpec, fields: &Fields) -> Result<String, DriverError> {
        let wanted = Wanted::of(spec)?;
        let found = match image::inspect(&self.engine, &wanted.image).await? {
            Some(found) => found,
            // Removed from the machine since it was installed.
            None => {
                let silent: ProgressSink = Arc::new(|_| {});
                self.install_image(spec, &silent).await?;
                let found = image::inspect(&self.engine, &wanted.image).await?;
                found.ok_or_else(|| error::retry_because(format!("image `{}` vanishes as soon as it is installed", wanted.image)))?
            }
        };
        let server_dir = self.absolute_server_dir(spec)?;
        let volumes = volumes::wanted(spec, &found, &server_dir)?;
        volumes::prepare(&self.engine, self.config.worker, spec, &wanted.image, &found, &server_dir, &volumes).await?;
        files::write(spec, server_dir.join("data")).await?;
        let epoch = SessionEpoch::new(self.session_epoch.load(Ordering::Relaxed));
        let mut body = create::body(spec, &wanted.image, fields, epoch, &volumes);
        self.put_in_box(spec, fields.instance, &found, &mut body).await?;
        let options = CreateContainerOptionsBuilder::new().name(&fields.container_name()).build();
        match self.engine.docker().await?.create_container(Some(options), body).await {
            Ok(made) => Ok(made.id),
            Err(source) if error::status(&source) == Some(409) => match self.adopt(fields).await? {
                Some(id) => Ok(id),
                None => Err(error::refused(
                    format!("a container named `{}` is there already and is not this server's", fields.container_name()),
                    Some("remove or rename it with `docker rm` or `docker rename`"),
                )),
            },
            Err(source) => Err(create_error(spec, source)),
        }
    }

    /// The container of this very instance, if an earlier call has made it.
    async fn adopt(&self, fields: &Fields) -> Result<Option<String>, DriverError> {
        let found = match self.engine.inspect(&fields.container_name()).await {
            Ok(found) => found,
            Err(error) if error.kind == DriverErrorKind::Gone => return Ok(None),
            Err(error) => return Err(error),
        };
        let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
        let matches = Fields::from_labels(&labels)
            .is_some_and(|found| found.worker == fields.worker && found.server == fields.server && found.instance == fields.instance);
        Ok(found.id.filter(|_| matches))
    }

    /// The engine has a working directory of its own.
    fn absolute_server_dir(&self, spec: &ServerSpec) -> Result<PathBuf, DriverError> {
        let dir = self.server_dir(spec.id);
        std::path::absolute(&dir).map_err(|source| error::retry(format!("{} has no absolute path", dir.display()), source))
    }

    pub(super) async fn remove_instance(&self, instance: &Instance) -> Result<(), DriverError> {
        let id = container_of(instance)?;
        match self.engine.is_running(id).await {
            Ok(false) => {}
            Ok(true) => return Err(error::retry_because(format!("container {} still runs and is not removed", short(id)))),
            Err(error) if error.kind == DriverErrorKind::Gone => return Ok(()),
            Err(error) => return Err(error),
        }
        self.consoles.forget(id);
        self.samples.forget(id);
        // Without force: should it run after all, the engine refuses.
        let options = RemoveContainerOptionsBuilder::new().v(true).build();
        match self.engine.docker().await?.remove_container(id, Some(options)).await {
            Ok(()) => {}
            Err(source) if error::status(&source) == Some(404) => {}
            Err(source) => return Err(error::retry(format!("container {} can not be removed", short(id)), source)),
        }
        self.drop_box(instance.server, instance.id).await;
        Ok(())
    }
}

fn create_error(spec: &ServerSpec, source: bollard::errors::Error) -> DriverError {
    // 400: the engine understood, and will not do it the next time either.
    let kind = if error::status(&source) == Some(400) { DriverErrorKind::Final } else { DriverErrorKind::Retry };
    DriverError { kind, what: format!("no container could be made for `{}`", spec.name), hint: None, source: Some(source.into()) }
}

/// The engine says why in words only.
fn start_error(spec: &ServerSpec, source: bollard::errors::Error) -> DriverError {
    let said = error::message(&source);
    let taken = ["port is already allocated", "address already in use"].iter().any(|sign| said.contains(sign));
    if taken {
        // The words hold the number somewhere: `0.0.0.0:27960` or `listen udp4 0.0.0.0:27960`.
        let port = spec.run.ports.iter().find(|port| has_number(&said, port.port));
        let what = match port {
            Some(port) => format!("port {}/{} is in use", port.port, port.protocol.as_str()),
            None => "a port of it is in use".to_owned(),
        };
        return DriverError {
            kind: DriverErrorKind::Retry,
            what,
            hint: Some("another program on this machine has it: end that one, or give the server another port".to_owned()),
            source: Some(source.into()),
        };
    }
    let broken =
        ["executable file not found", "no such file or directory", "permission denied", "unable to find user", "no command specified"];
    let kind = if broken.iter().any(|sign| said.to_lowercase().contains(sign)) { DriverErrorKind::Final } else { DriverErrorKind::Retry };
    DriverError { kind, what: format!("the container of `{}` does not start", spec.name), hint: None, source: Some(source.into()) }
}

fn has_number(text: &str, number: u16) -> bool {
    text.split(|c: char| !c.is_ascii_digit()).any(|part| part.parse() == Ok(number))
}
