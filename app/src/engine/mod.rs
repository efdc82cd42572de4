//! What runs by itself: each part is a `pass(&Context) -> Progress` that may be killed anywhere and run again, by any number of instances.
