//! The operations of amq-protocol, the codec of lapin, that are compared with HopMQ's.

use std::error::Error;
use std::hint::black_box;

use ::amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame};
use ::amq_protocol::protocol::{AMQPClass, BasicProperties, basic};

pub fn parse(block: &[u8], blocks: usize) -> Result<(), Box<dyn Error>> {
    for _ in 0..blocks {
        let mut rest = block;
        while !rest.is_empty() {
            let (left, frame) = parse_frame(rest).map_err(|error| format!("{error:?}"))?;
            black_box(frame);
            rest = left;
        }
    }
    Ok(())
}

pub fn publish(queue: &str, body: &[u8], count: usize) -> Result<(), Box<dyn Error>> {
    let mut out = Vec::new();
    for _ in 0..count {
        let publish =
            basic::Publish { exchange: "".into(), routing_key: queue.into(), mandatory: false, immediate: false };
        let header = AMQPContentHeader {
            class_id: 60,
            body_size: body.len() as u64,
            properties: BasicProperties::default().with_content_type("text/plain".into()).with_delivery_mode(2),
        };
        let frames = [
            AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Publish(publish))),
            AMQPFrame::Header(1, header),
            AMQPFrame::Body(1, body.to_vec()),
        ];
        out.clear();
        for frame in &frames {
            out = gen_frame(frame)(WriteContext::from(out)).map_err(|error| format!("{error:?}"))?.into_inner().0;
        }
        black_box(&out);
    }
    Ok(())
}
