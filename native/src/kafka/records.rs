//! Messages of librdkafka to the columns of a polled batch.

use std::collections::HashMap;
use std::ffi::CStr;
use std::ptr;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    StructArray, TimestampMicrosecondArray, new_null_array,
};
use arrow_buffer::{Buffer, NullBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, SchemaRef};

use super::api::{Api, Message, Topic};

/// The last millisecond that Arrow can hold as microseconds.
const TIMESTAMP_MS_MAX: i64 = i64::MAX / 1000;

/// Topic, Kafka partition and an offset.
pub type Position = (String, i32, i64);

/// Bytes of any length, one after the other; some may be null.
struct Binaries {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
    nulls: NullBufferBuilder,
}

impl Binaries {
    fn new(count: usize, byte_count: usize) -> Self {
        let mut offsets = Vec::with_capacity(count + 1);
        offsets.push(0);
        let bytes = Vec::with_capacity(byte_count);
        Self { offsets, bytes, nulls: NullBufferBuilder::new(count) }
    }

    /// # Safety
    /// `start` is null, or there are `len` bytes at it.
    #[inline(always)]
    unsafe fn push(&mut self, start: *const u8, len: usize) -> usize {
        if start.is_null() {
            self.nulls.append_null();
        } else {
            let bytes = unsafe { std::slice::from_raw_parts(start, len) };
            self.bytes.extend_from_slice(bytes);
            self.nulls.append_non_null();
        }
        // Safe because a poll has far fewer bytes than 31 bits count.
        self.offsets.push(self.bytes.len() as i32);
        if start.is_null() { 0 } else { len }
    }

    fn finish(mut self) -> Result<BinaryArray, ArrowError> {
        let nulls = self.nulls.finish();
        BinaryArray::try_new(offset_buffer(self.offsets), Buffer::from_vec(self.bytes), nulls)
    }
}

/// Where a Kafka partition stands behind its last message.
struct Behind {
    topic: *const Topic,
    topic_place: u32,
    partition: i32,
    next_offset: i64,
}

/// The columns while they grow.
pub struct Records {
    topics: Vec<String>,
    positions: Vec<Behind>,
    /// Of the last message: the next one is of the same Kafka partition most of the time.
    last_position: usize,
    topic_of: Vec<u32>,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
    timestamps: Vec<i64>,
    timestamp_nulls: NullBufferBuilder,
    keys: Binaries,
    values: Binaries,
    header_offsets: Vec<i32>,
    header_nulls: NullBufferBuilder,
    header_keys: Binaries,
    header_values: Binaries,
    pub byte_count: usize,
    pub unreadable_header_count: usize,
}

impl Records {
    pub fn new(count: usize, byte_count: usize) -> Self {
        Self {
            topics: Vec::new(),
            positions: Vec::new(),
            last_position: 0,
            topic_of: Vec::with_capacity(count),
            partitions: Vec::with_capacity(count),
            offsets: Vec::with_capacity(count),
            timestamps: Vec::with_capacity(count),
            timestamp_nulls: NullBufferBuilder::new(count),
            keys: Binaries::new(count, 0),
            values: Binaries::new(count, byte_count),
            header_offsets: vec![0],
            header_nulls: NullBufferBuilder::new(count),
            header_keys: Binaries::new(0, 0),
            header_values: Binaries::new(0, 0),
            byte_count: 0,
            unreadable_header_count: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// # Safety
    /// `message` is one of librdkafka's, without an error.
    pub unsafe fn push(&mut self, api: &Api, message: &Message) {
        let position = unsafe { self.position_of(api, message) };
        position.next_offset = message.offset + 1;
        let topic_place = position.topic_place;
        self.topic_of.push(topic_place);
        self.partitions.push(message.partition);
        self.offsets.push(message.offset);
        let milliseconds = unsafe { (api.message_timestamp)(message, &mut 0) };
        // Kafka writes -1 for "none", and a producer may send any number: one that has no
        // microseconds in 64 bits is no timestamp.
        if (0..=TIMESTAMP_MS_MAX).contains(&milliseconds) {
            self.timestamps.push(milliseconds * 1000);
            self.timestamp_nulls.append_non_null();
        } else {
            self.timestamps.push(0);
            self.timestamp_nulls.append_null();
        }
        unsafe {
            self.byte_count += self.keys.push(message.key, message.key_len);
            self.byte_count += self.values.push(message.payload, message.len);
            self.push_headers(api, message);
        }
    }

    #[inline(always)]
    unsafe fn position_of(&mut self, api: &Api, message: &Message) -> &mut Behind {
        let is_of = |known: &Behind| {
            known.partition == message.partition && ptr::eq(known.topic, message.topic)
        };
        if !self.positions.get(self.last_position).is_some_and(is_of) {
            self.last_position = match self.positions.iter().position(is_of) {
                Some(place) => place,
                None => unsafe { self.add_position(api, message) },
            };
        }
        &mut self.positions[self.last_position]
    }

    unsafe fn add_position(&mut self, api: &Api, message: &Message) -> usize {
        let name = unsafe { topic_name(api, message.topic) };
        // librdkafka may have two objects for one topic.
        let known = self.topics.iter().position(|known| *known == name);
        let topic_place = known.unwrap_or_else(|| {
            self.topics.push(name);
            self.topics.len() - 1
        }) as u32;
        let (topic, partition) = (message.topic, message.partition);
        self.positions.push(Behind { topic, topic_place, partition, next_offset: 0 });
        self.positions.len() - 1
    }

    unsafe fn push_headers(&mut self, api: &Api, message: &Message) {
        let mut headers = ptr::null_mut();
        let has_headers = unsafe { (api.message_headers)(message, &mut headers) } == 0;
        let before = self.header_keys.offsets.len();
        let mut is_readable = has_headers && !headers.is_null();
        let mut byte_count = 0;
        let mut index = 0;
        while is_readable {
            let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
            let end = unsafe {
                (api.header_get_all)(headers, index, &mut name, &mut value, &mut len)
            };
            if end != 0 {
                break;
            }
            let name = unsafe { CStr::from_ptr(name) }.to_bytes();
            // Whoever asks for a record's headers gets all of them or none.
            is_readable = std::str::from_utf8(name).is_ok();
            unsafe {
                byte_count += self.header_keys.push(name.as_ptr(), name.len());
                byte_count += self.header_values.push(value.cast(), len);
            }
            index += 1;
        }
        let count = self.header_keys.offsets.len() - before;
        if is_readable && count > 0 {
            self.header_nulls.append_non_null();
            self.byte_count += byte_count;
        } else {
            if count > 0 {
                self.unreadable_header_count += 1;
                self.header_keys.drop_last(count);
                self.header_values.drop_last(count);
            }
            self.header_nulls.append_null();
        }
        self.header_offsets.push(self.header_keys.offsets.len() as i32 - 1);
    }

    /// The position behind the last record, of each Kafka partition that has one.
    pub fn next_offsets(&self) -> Vec<Position> {
        let mut ends = HashMap::new();
        for behind in &self.positions {
            let end = ends.entry((behind.topic_place, behind.partition)).or_insert(0);
            *end = behind.next_offset.max(*end);
        }
        let named = ends.into_iter().map(|((topic_place, partition), next_offset)| {
            (self.topics[topic_place as usize].clone(), partition, next_offset)
        });
        named.collect()
    }

    /// `schema` is that of a polled batch.
    pub fn finish(mut self, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
        let count = self.len();
        let topics = StringArray::from_iter_values(
            self.topic_of.iter().map(|&place| self.topics[place as usize].as_str()),
        );
        let timestamps =
            TimestampMicrosecondArray::try_new(self.timestamps.into(), self.timestamp_nulls.finish())?
                .with_data_type(schema.field(3).data_type().clone());
        let header_nulls = self.header_nulls.finish();
        let headers = header_column(
            schema.field(5).data_type(),
            (self.header_keys, self.header_values),
            self.header_offsets,
            header_nulls,
            count,
        )?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(topics),
            Arc::new(Int32Array::try_new(self.partitions.into(), None)?),
            Arc::new(Int64Array::try_new(self.offsets.into(), None)?),
            Arc::new(timestamps),
            Arc::new(self.keys.finish()?),
            headers,
            Arc::new(self.values.finish()?),
        ];
        RecordBatch::try_new(schema.clone(), columns)
    }
}

impl Binaries {
    fn drop_last(&mut self, count: usize) {
        let len = self.offsets.len() - 1 - count;
        self.offsets.truncate(len + 1);
        self.bytes.truncate(self.offsets[len] as usize);
        self.nulls.truncate(len);
    }
}

fn header_column(
    data_type: &DataType,
    (keys, values): (Binaries, Binaries),
    offsets: Vec<i32>,
    nulls: Option<NullBuffer>,
    count: usize,
) -> Result<ArrayRef, ArrowError> {
    let DataType::List(element) = data_type else {
        return Err(ArrowError::SchemaError("headers are no list".to_owned()));
    };
    let DataType::Struct(fields) = element.data_type() else {
        return Err(ArrowError::SchemaError("a header is no struct".to_owned()));
    };
    if keys.offsets.len() == 1 {
        return Ok(new_null_array(data_type, count));
    }
    let keys = StringArray::try_new(offset_buffer(keys.offsets), Buffer::from_vec(keys.bytes), None)?;
    let pairs: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(values.finish()?)];
    let pairs = StructArray::try_new(fields.clone(), pairs, None)?;
    let headers =
        ListArray::try_new(element.clone(), offset_buffer(offsets), Arc::new(pairs), nulls)?;
    Ok(Arc::new(headers))
}

fn offset_buffer(offsets: Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}

/// # Safety
/// `topic` is one of librdkafka's.
pub unsafe fn topic_name(api: &Api, topic: *const Topic) -> String {
    unsafe { CStr::from_ptr((api.topic_name)(topic)) }.to_string_lossy().into_owned()
}
