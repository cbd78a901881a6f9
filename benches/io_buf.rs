//! Taking and giving back aligned buffers: the pool against the allocator.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use thalweg::io::buf::IoBuf;

fn buffers(criterion: &mut Criterion) {
    for bytes in [4096usize, 256 << 10, 1 << 20] {
        let mut group = criterion.benchmark_group(format!("io_buf/{bytes}"));
        for (name, pool_bytes) in [("allocator", 0), ("pool", 64 << 20)] {
            IoBuf::set_pool_bytes_max(pool_bytes);
            group.bench_function(name, |bencher| {
                bencher.iter(|| black_box(IoBuf::alloc(black_box(bytes))).freeze(bytes));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, buffers);
criterion_main!(benches);
