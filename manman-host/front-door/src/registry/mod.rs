//! Who is alive, and where: services register themselves and find each other.
