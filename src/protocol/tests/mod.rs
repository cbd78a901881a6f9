//! Tests of whole messages: against an independent codec (`kafka-protocol`, which must never see
//! bytes from a network), and against hostile bytes.

mod codec_oracle;
mod fetch_oracle;
mod hostile;
mod model;
mod produce_oracle;
mod samples;
