//! (opening doc to come)
