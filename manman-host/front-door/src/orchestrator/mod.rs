//! Who may be reached from outside: services say hello, get a route, a database, and are watched.
