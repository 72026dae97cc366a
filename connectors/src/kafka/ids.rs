//! The ids of topics: one that was deleted and created anew has its old name and another id.
//!
//! The safe interface of the client does not tell them, so librdkafka is called here; nothing else in this
//! crate is `unsafe`.

#![allow(
    unsafe_code,
    reason = "topics are described through the C interface alone"
)]

use rdkafka::bindings::{
    rd_kafka_AdminOptions_destroy, rd_kafka_AdminOptions_new,
    rd_kafka_AdminOptions_set_request_timeout, rd_kafka_DescribeTopics,
    rd_kafka_DescribeTopics_result_topics, rd_kafka_TopicCollection_destroy,
    rd_kafka_TopicCollection_of_topic_names, rd_kafka_TopicDescription_error,
    rd_kafka_TopicDescription_name, rd_kafka_TopicDescription_t,
    rd_kafka_TopicDescription_topic_id, rd_kafka_Uuid_least_significant_bits,
    rd_kafka_Uuid_most_significant_bits, rd_kafka_admin_op_t, rd_kafka_error_code,
    rd_kafka_event_DescribeTopics_result, rd_kafka_event_destroy, rd_kafka_event_error,
    rd_kafka_event_t, rd_kafka_queue_destroy, rd_kafka_queue_new, rd_kafka_queue_poll,
    rd_kafka_resp_err_t,
};
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::time::Duration;

/// How much longer than the request may take its answer is waited for.
const GRACE: Duration = Duration::from_secs(1);

/// The ids of those of the topics that exist, by name. A broker older than 2.8 has none to tell.
pub(super) fn topic_ids<C: ClientContext>(
    client: &Client<C>,
    topics: &[String],
    timeout: Duration,
) -> Result<BTreeMap<String, String>, ClientError> {
    let names: Result<Vec<CString>, _> = topics
        .iter()
        .map(|topic| CString::new(topic.as_str()))
        .collect();
    let names = names.map_err(ClientError::Nul)?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let millis = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client lives as long as the borrow, and is what everything is made of. The collection copies
    // the names, the request copies collection and options, and the queue is counted by the request too, so
    // that each may go when it has been handed over. The event is read before it is destroyed, and ours alone.
    unsafe {
        let native = client.native_ptr();
        let collection =
            rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let describe = rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = rd_kafka_AdminOptions_new(native, describe);
        // A time that it does not take leaves its own in force.
        rd_kafka_AdminOptions_set_request_timeout(
            options,
            millis(timeout).max(1),
            std::ptr::null_mut(),
            0,
        );
        let queue = rd_kafka_queue_new(native);
        rd_kafka_DescribeTopics(native, collection, options, queue);
        rd_kafka_AdminOptions_destroy(options);
        rd_kafka_TopicCollection_destroy(collection);
        let event = rd_kafka_queue_poll(queue, millis(timeout + GRACE));
        let ids = if event.is_null() {
            Err(ClientError::MetadataFetch(Code::OperationTimedOut))
        } else {
            let ids = told(event);
            rd_kafka_event_destroy(event);
            ids
        };
        rd_kafka_queue_destroy(queue);
        ids
    }
}

/// What the answer says.
///
/// # Safety
/// `event` is the answer to a request for descriptions of topics, and is not destroyed yet.
unsafe fn told(event: *mut rd_kafka_event_t) -> Result<BTreeMap<String, String>, ClientError> {
    // SAFETY: as the caller promises; what is read of the event lives as long as it.
    unsafe {
        is_well(rd_kafka_event_error(event))?;
        let result = rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Ok(BTreeMap::new());
        }
        let mut count = 0;
        let topics = rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        let mut ids = BTreeMap::new();
        for at in 0..count {
            ids.extend(id_of(*topics.add(at))?);
        }
        Ok(ids)
    }
}

/// The name and the id of a topic, if it exists and has one.
///
/// # Safety
/// `topic` is one of the descriptions of an answer that is not destroyed yet.
unsafe fn id_of(
    topic: *const rd_kafka_TopicDescription_t,
) -> Result<Option<(String, String)>, ClientError> {
    // SAFETY: as the caller promises; what is read of the description lives as long as it.
    unsafe {
        let error = rd_kafka_TopicDescription_error(topic);
        if !error.is_null() {
            return match is_well(rd_kafka_error_code(error)) {
                Err(ClientError::MetadataFetch(
                    Code::UnknownTopicOrPartition | Code::UnknownTopic,
                )) => Ok(None),
                failed => failed.map(|()| None),
            };
        }
        let name = CStr::from_ptr(rd_kafka_TopicDescription_name(topic));
        let id = rd_kafka_TopicDescription_topic_id(topic);
        let most = rd_kafka_Uuid_most_significant_bits(id);
        let least = rd_kafka_Uuid_least_significant_bits(id);
        let named = || {
            (
                name.to_string_lossy().into_owned(),
                format!("{most:016x}{least:016x}"),
            )
        };
        Ok(((most, least) != (0, 0)).then(named))
    }
}

fn is_well(code: rd_kafka_resp_err_t) -> Result<(), ClientError> {
    match code {
        rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(ClientError::MetadataFetch(Code::from(code))),
    }
}
