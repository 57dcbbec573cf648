//! The few functions of librdkafka that polling needs, out of the copy that confluent-kafka brings.
//!
//! One copy in the process means one version, one set of codecs, one TLS and one SASL for both
//! paths, and nothing to build. Only the public, stable interface of `rdkafka.h` is used.

use std::ffi::{c_char, c_int, c_void};

use libloading::os::unix::Library;

pub enum Client {}
pub enum Conf {}
pub enum Queue {}
pub enum Topic {}
pub enum Headers {}
pub enum TopicPartitions {}

pub const CONF_OK: c_int = 0;
pub const ERR_PARTITION_EOF: c_int = -191;
pub const ERR_FATAL: c_int = -150;
pub const ERR_INVALID_ARG: c_int = -186;

/// Enough for any of librdkafka's messages, which it cuts to fit.
pub const REASON_BYTES: usize = 512;

const TYPE_CONSUMER: c_int = 1;
const VERSION_MIN: c_int = 0x02_00_00_00;

/// `rd_kafka_message_t`.
#[repr(C)]
pub struct Message {
    pub err: c_int,
    pub topic: *const Topic,
    pub partition: i32,
    pub payload: *const u8,
    pub len: usize,
    pub key: *const u8,
    pub key_len: usize,
    pub offset: i64,
    private: *mut c_void,
}

pub type OnError = unsafe extern "C" fn(*mut Client, c_int, *const c_char, *mut c_void);
pub type OnLog = unsafe extern "C" fn(*const Client, c_int, *const c_char, *const c_char);

macro_rules! api {
    ($($symbol:ident as $name:ident: fn($($arg:ty),*) $(-> $ret:ty)?;)*) => {
        pub struct Api {
            $(pub $name: unsafe extern "C" fn($($arg),*) $(-> $ret)?,)*
            _library: Library,
        }

        impl Api {
            /// # Safety
            /// `path` is a library that is loaded already and that depends on librdkafka.
            pub unsafe fn find(path: &str) -> Result<Self, String> {
                // Safe because a library that is loaded already runs no code when it is opened
                // again, and because the types are those of `rdkafka.h`.
                unsafe {
                    let library = Library::new(path).map_err(|error| error.to_string())?;
                    let api = Self {
                        $($name: *library
                            .get(concat!(stringify!($symbol), "\0").as_bytes())
                            .map_err(|error| error.to_string())?,)*
                        _library: library,
                    };
                    if (api.version)() < VERSION_MIN {
                        return Err("librdkafka is too old".to_owned());
                    }
                    Ok(api)
                }
            }
        }
    };
}

api! {
    rd_kafka_version as version: fn() -> c_int;
    rd_kafka_conf_new as conf_new: fn() -> *mut Conf;
    rd_kafka_conf_destroy as conf_destroy: fn(*mut Conf);
    rd_kafka_conf_set as conf_set:
        fn(*mut Conf, *const c_char, *const c_char, *mut c_char, usize) -> c_int;
    rd_kafka_conf_set_opaque as conf_set_opaque: fn(*mut Conf, *mut c_void);
    rd_kafka_conf_set_error_cb as conf_set_error_cb: fn(*mut Conf, OnError);
    rd_kafka_conf_set_log_cb as conf_set_log_cb: fn(*mut Conf, OnLog);
    rd_kafka_new as new_client: fn(c_int, *mut Conf, *mut c_char, usize) -> *mut Client;
    rd_kafka_last_error as last_error: fn() -> c_int;
    rd_kafka_name as client_name: fn(*const Client) -> *const c_char;
    rd_kafka_opaque as opaque: fn(*const Client) -> *mut c_void;
    rd_kafka_fatal_error as fatal_error: fn(*mut Client, *mut c_char, usize) -> c_int;
    rd_kafka_err2str as err2str: fn(c_int) -> *const c_char;
    rd_kafka_poll_set_consumer as poll_set_consumer: fn(*mut Client) -> c_int;
    rd_kafka_queue_get_consumer as queue_get_consumer: fn(*mut Client) -> *mut Queue;
    rd_kafka_queue_destroy as queue_destroy: fn(*mut Queue);
    rd_kafka_topic_partition_list_new as partitions_new: fn(c_int) -> *mut TopicPartitions;
    rd_kafka_topic_partition_list_add as partitions_add:
        fn(*mut TopicPartitions, *const c_char, i32) -> *mut c_void;
    rd_kafka_topic_partition_list_set_offset as partitions_set_offset:
        fn(*mut TopicPartitions, *const c_char, i32, i64) -> c_int;
    rd_kafka_topic_partition_list_destroy as partitions_destroy: fn(*mut TopicPartitions);
    rd_kafka_assign as assign: fn(*mut Client, *const TopicPartitions) -> c_int;
    rd_kafka_consume_batch_queue as consume_batch:
        fn(*mut Queue, c_int, *mut *mut Message, usize) -> isize;
    rd_kafka_message_destroy as message_destroy: fn(*mut Message);
    rd_kafka_message_errstr as message_errstr: fn(*const Message) -> *const c_char;
    rd_kafka_message_timestamp as message_timestamp: fn(*const Message, *mut c_int) -> i64;
    rd_kafka_message_headers as message_headers:
        fn(*const Message, *mut *mut Headers) -> c_int;
    rd_kafka_header_get_all as header_get_all:
        fn(*const Headers, usize, *mut *const c_char, *mut *const c_void, *mut usize) -> c_int;
    rd_kafka_topic_name as topic_name: fn(*const Topic) -> *const c_char;
    rd_kafka_get_watermark_offsets as get_watermarks:
        fn(*mut Client, *const c_char, i32, *mut i64, *mut i64) -> c_int;
    rd_kafka_consumer_close as consumer_close: fn(*mut Client) -> c_int;
    rd_kafka_destroy as destroy: fn(*mut Client);
}

impl Api {
    /// # Safety
    /// `conf` is a configuration, which belongs to the client from then on; not where there is none.
    pub unsafe fn consumer(&self, conf: *mut Conf, reason: &mut [u8]) -> *mut Client {
        let reason_start = reason.as_mut_ptr().cast();
        unsafe { (self.new_client)(TYPE_CONSUMER, conf, reason_start, reason.len()) }
    }
}
