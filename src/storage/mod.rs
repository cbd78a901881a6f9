//! (opening doc to come)

pub mod epoch_history;
pub mod producer_table;
