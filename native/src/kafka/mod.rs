//! One consumer with one assignment, and what waits in its queue, as columns.
//!
//! What an error means is decided in Python: here an error only ends what is taken, unless it is
//! one of those that were named as passing. All that polling decides (how many, how long) comes
//! from there too, so that both paths poll alike.

mod api;
mod records;

use std::collections::{HashSet, VecDeque};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::{Mutex, OnceLock};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use api::{Api, Client, Message, Queue};
pub use records::Position;
use records::{Records, topic_name};

/// Log lines and errors that wait to be asked for. More would be an outage of days in one poll.
const REPORTS_MAX: usize = 1_000;

/// An error code of librdkafka and its text.
#[derive(Clone, Debug)]
pub struct Failure {
    pub code: c_int,
    pub reason: String,
}

/// An error in the place of a message, and which Kafka partition it is about, if it is about one.
pub struct Stop {
    pub failure: Failure,
    pub topic: Option<String>,
    pub partition: i32,
}

/// What librdkafka says about itself.
pub enum Report {
    Error { failure: Failure, is_fatal: bool },
    Log { level: c_int, facility: String, client: String, line: String },
}

/// What became of the messages that were fetched.
pub struct Taken {
    pub rows: Option<RecordBatch>,
    pub byte_count: usize,
    pub unreadable_header_count: usize,
    pub next_offsets: Vec<Position>,
    /// Where the log ends now, of Kafka partitions that were read up to there.
    pub ends: Vec<Position>,
    pub passing: Vec<Failure>,
    /// The first error that does not pass; no message behind it is taken.
    pub stop: Option<Stop>,
}

#[derive(Default)]
struct Reports {
    waiting: Mutex<VecDeque<Report>>,
}

/// What callbacks call. They are told the client and nothing else, and there is one librdkafka.
struct CallbackApi {
    opaque: unsafe extern "C" fn(*const Client) -> *mut c_void,
    client_name: unsafe extern "C" fn(*const Client) -> *const c_char,
    fatal_error: unsafe extern "C" fn(*mut Client, *mut c_char, usize) -> c_int,
}

static CALLBACK_API: OnceLock<CallbackApi> = OnceLock::new();

impl Reports {
    fn push(&self, report: Report) {
        // A panic elsewhere cannot have left a queue half changed.
        let mut waiting = self.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if waiting.len() == REPORTS_MAX {
            waiting.pop_front();
        }
        waiting.push_back(report);
    }
}

pub struct Consumer {
    api: Api,
    // Boxed, because callbacks of librdkafka's own threads point to it.
    reports: Box<Reports>,
    client: *mut Client,
    queue: *mut Queue,
    fetched: Vec<*mut Message>,
    passing_codes: HashSet<c_int>,
    schema: SchemaRef,
    record_bytes: usize,
}

// Safe because librdkafka's functions may be called by any thread, and because messages are
// touched only through `&mut self`.
unsafe impl Send for Consumer {}

impl Consumer {
    /// Assigns `positions` to a new consumer.
    ///
    /// `library` is a loaded library that depends on librdkafka.
    pub fn new(
        library: &str,
        properties: &[(String, String)],
        positions: &[Position],
        passing_codes: HashSet<c_int>,
        schema: SchemaRef,
    ) -> Result<Self, Failure> {
        let invalid = |reason: String| Failure { code: api::ERR_INVALID_ARG, reason };
        // Safe because the caller says so.
        let api = unsafe { Api::find(library) }.map_err(invalid)?;
        CALLBACK_API.get_or_init(|| CallbackApi {
            opaque: api.opaque,
            client_name: api.client_name,
            fatal_error: api.fatal_error,
        });
        let reports = Box::<Reports>::default();
        let client = unsafe { new_client(&api, &reports, properties)? };
        let queue = unsafe {
            (api.poll_set_consumer)(client);
            (api.queue_get_consumer)(client)
        };
        let consumer = Self {
            api,
            reports,
            client,
            queue,
            fetched: Vec::new(),
            passing_codes,
            schema,
            record_bytes: 0,
        };
        consumer.assign(positions)?;
        Ok(consumer)
    }

    fn assign(&self, positions: &[Position]) -> Result<(), Failure> {
        let topics = positions.iter().map(|(topic, ..)| text(topic)).collect::<Result<Vec<_>, _>>()?;
        let code = unsafe {
            let list = (self.api.partitions_new)(positions.len() as c_int);
            for (topic, &(_, partition, offset)) in topics.iter().zip(positions) {
                (self.api.partitions_add)(list, topic.as_ptr(), partition);
                (self.api.partitions_set_offset)(list, topic.as_ptr(), partition, offset);
            }
            let code = (self.api.assign)(self.client, list);
            (self.api.partitions_destroy)(list);
            code
        };
        if code == 0 { Ok(()) } else { Err(self.failure(code)) }
    }

    fn failure(&self, code: c_int) -> Failure {
        Failure { code, reason: unsafe { lossy((self.api.err2str)(code)) } }
    }

    /// Adds up to `count` messages to those that were fetched, and returns how many came.
    pub fn fetch(&mut self, count: usize, timeout_ms: c_int) -> usize {
        let before = self.fetched.len();
        self.fetched.resize(before + count, ptr::null_mut());
        let came = unsafe {
            let start = self.fetched.as_mut_ptr().add(before);
            (self.api.consume_batch)(self.queue, timeout_ms, start, count)
        };
        let came = usize::try_from(came).unwrap_or(0);
        self.fetched.truncate(before + came);
        came
    }

    /// Turns what was fetched into columns.
    pub fn take(&mut self) -> Result<Taken, arrow_schema::ArrowError> {
        let count = self.fetched.len();
        let mut records = Records::new(count, count * self.record_bytes * 9 / 8);
        let (mut ends, mut passing, mut stop) = (Vec::new(), Vec::new(), None);
        for index in 0..count {
            let pointer = std::mem::replace(&mut self.fetched[index], ptr::null_mut());
            // Safe because librdkafka hands out messages that live until they are destroyed.
            let message = unsafe { &*pointer };
            if message.err == 0 {
                unsafe { records.push(&self.api, message) };
            } else if message.err == api::ERR_PARTITION_EOF {
                let topic = unsafe { topic_name(&self.api, message.topic) };
                ends.push((topic, message.partition, message.offset));
            } else {
                let reason = unsafe { lossy((self.api.message_errstr)(message)) };
                let failure = Failure { code: message.err, reason };
                if self.passing_codes.contains(&message.err) {
                    passing.push(failure);
                } else {
                    let topic = (!message.topic.is_null())
                        .then(|| unsafe { topic_name(&self.api, message.topic) });
                    stop = Some(Stop { failure, topic, partition: message.partition });
                }
            }
            unsafe { (self.api.message_destroy)(pointer) };
            if stop.is_some() {
                break;
            }
        }
        self.drop_fetched();
        let (byte_count, record_count) = (records.byte_count, records.len());
        if record_count > 0 {
            self.record_bytes = byte_count / record_count;
        }
        Ok(Taken {
            byte_count,
            unreadable_header_count: records.unreadable_header_count,
            next_offsets: records.next_offsets(),
            rows: if record_count > 0 { Some(records.finish(&self.schema)?) } else { None },
            ends,
            passing,
            stop,
        })
    }

    /// Everything that was reported since the last call.
    pub fn take_reports(&self) -> VecDeque<Report> {
        let waiting = self.reports.waiting.lock();
        std::mem::take(&mut *waiting.unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Log start and end as the last fetch said, without asking.
    pub fn watermarks(&self, topic: &str, partition: i32) -> Option<(i64, i64)> {
        let topic = text(topic).ok()?;
        let (mut low, mut high) = (0, 0);
        let code = unsafe {
            (self.api.get_watermarks)(self.client, topic.as_ptr(), partition, &mut low, &mut high)
        };
        (code == 0).then_some((low, high))
    }

    fn drop_fetched(&mut self) {
        for pointer in self.fetched.drain(..).filter(|pointer| !pointer.is_null()) {
            unsafe { (self.api.message_destroy)(pointer) };
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.drop_fetched();
        unsafe {
            (self.api.consumer_close)(self.client);
            // Before the client goes, because it waits for whoever holds its queue.
            (self.api.queue_destroy)(self.queue);
            (self.api.destroy)(self.client);
        }
    }
}

/// # Safety
/// `reports` stays where it is for as long as the client lives.
unsafe fn new_client(
    api: &Api,
    reports: &Reports,
    properties: &[(String, String)],
) -> Result<*mut Client, Failure> {
    let mut reason = [0_u8; api::REASON_BYTES];
    let conf = unsafe { (api.conf_new)() };
    for (name, value) in properties {
        let is_set = text(name).and_then(|name| Ok((name, text(value)?))).and_then(|(name, value)| {
            let code = unsafe {
                let reason_start = reason.as_mut_ptr().cast();
                (api.conf_set)(conf, name.as_ptr(), value.as_ptr(), reason_start, reason.len())
            };
            let invalid = || Failure { code: api::ERR_INVALID_ARG, reason: text_of(&reason) };
            if code == api::CONF_OK { Ok(()) } else { Err(invalid()) }
        });
        if let Err(failure) = is_set {
            unsafe { (api.conf_destroy)(conf) };
            return Err(failure);
        }
    }
    unsafe {
        (api.conf_set_opaque)(conf, ptr::from_ref(reports).cast_mut().cast());
        (api.conf_set_error_cb)(conf, on_error);
        (api.conf_set_log_cb)(conf, on_log);
        let client = api.consumer(conf, &mut reason);
        if client.is_null() {
            let code = (api.last_error)();
            (api.conf_destroy)(conf);
            return Err(Failure { code, reason: text_of(&reason) });
        }
        Ok(client)
    }
}

unsafe extern "C" fn on_error(
    client: *mut Client,
    code: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    let mut failure = Failure { code, reason: unsafe { lossy(reason) } };
    let is_fatal = code == api::ERR_FATAL;
    if let (true, Some(api)) = (is_fatal, CALLBACK_API.get()) {
        let mut text = [0_u8; api::REASON_BYTES];
        let code = unsafe { (api.fatal_error)(client, text.as_mut_ptr().cast(), text.len()) };
        failure = Failure { code, reason: text_of(&text) };
    }
    // Safe because the reports outlive the client.
    let reports = unsafe { &*opaque.cast_const().cast::<Reports>() };
    reports.push(Report::Error { failure, is_fatal });
}

unsafe extern "C" fn on_log(
    client: *const Client,
    level: c_int,
    facility: *const c_char,
    line: *const c_char,
) {
    // A line without a client has nobody to be reported to.
    let Some(api) = CALLBACK_API.get().filter(|_| !client.is_null()) else { return };
    let (opaque, client) = unsafe { ((api.opaque)(client), lossy((api.client_name)(client))) };
    if let Some(reports) = unsafe { opaque.cast_const().cast::<Reports>().as_ref() } {
        let (facility, line) = unsafe { (lossy(facility), lossy(line)) };
        reports.push(Report::Log { level, facility, client, line });
    }
}

fn text(text: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|_| Failure {
        code: api::ERR_INVALID_ARG,
        reason: "a zero byte in a property or a name".to_owned(),
    })
}

/// The text in a buffer that librdkafka filled.
fn text_of(buffer: &[u8]) -> String {
    let end = buffer.iter().position(|&byte| byte == 0).unwrap_or(buffer.len());
    String::from_utf8_lossy(&buffer[..end]).into_owned()
}

/// # Safety
/// `text` is null or a text of C.
unsafe fn lossy(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
