mod action;
mod at;
mod bare;
mod check;
mod definition;
mod fault;
mod ports;
mod resolve;
mod secret;
mod values;

pub use definition::{Definition, DefinitionPort, PortProtocol, Resources};
pub use fault::{Fault, Faults};
pub use ports::port_wishes;
pub use resolve::{Place, resolve_run, variables_of};
