//! The pickle machine, reduced to what a state dict is made of.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

type Dict = Rc<RefCell<Vec<(Value, Value)>>>;

/// What lies on the machine's stack.
#[derive(Clone, Debug)]
pub(super) enum Value {
    None,
    Bool,
    Int(i64),
    Float,
    Str(Rc<str>),
    Tuple(Rc<Vec<Value>>),
    List(Rc<RefCell<Vec<Value>>>),
    Dict(Dict),
    /// One of the allowed names, not yet called.
    Name(Callable),
    /// A storage type of torch, as `FloatStorage`.
    StorageType(Rc<str>),
    /// What a persistent id stands for: a storage of a type, by the key of its entry.
    Storage(Rc<str>, Rc<str>),
    Tensor(Rc<TensorRef>),
    Mark,
}

/// The only functions whose effect is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Callable {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
}

/// A tensor as a view of a storage; offset and strides in elements.
#[derive(Clone, Debug)]
pub(super) struct TensorRef {
    pub(super) storage: Rc<str>,
    pub(super) key: Rc<str>,
    pub(super) offset: i64,
    pub(super) shape: Vec<i64>,
    pub(super) strides: Vec<i64>,
}

impl Value {
    /// The value under a string key, if this is a dictionary that has it.
    pub(super) fn get(&self, key: &str) -> Option<Value> {
        let Value::Dict(items) = self else {
            return None;
        };
        let items = items.borrow();
        items.iter().find(|(k, _)| matches!(k, Value::Str(k) if &**k == key)).map(|(_, v)| v.clone())
    }

    fn ints(&self) -> Option<Vec<i64>> {
        let Value::Tuple(items) = self else {
            return None;
        };
        items.iter().map(|item| if let Value::Int(n) = item { Some(*n) } else { None }).collect()
    }
}

/// Runs a pickle of protocol 2 to 4 and returns what it leaves behind.
pub(super) fn run(bytes: &[u8]) -> Result<Value, String> {
    Machine { bytes, at: 0, stack: Vec::new(), memo: HashMap::new() }.run()
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    memo: HashMap<usize, Value>,
}

impl<'a> Machine<'a> {
    fn run(mut self) -> Result<Value, String> {
        loop {
            let opcode = self.take(1)?[0];
            match opcode {
                b'.' => return self.pop(),
                0x80 => {
                    self.take(1)?;
                }
                0x95 => {
                    self.take(8)?;
                }
                b'(' => self.stack.push(Value::Mark),
                b'0' => {
                    self.pop()?;
                }
                b'N' => self.stack.push(Value::None),
                0x88 => self.stack.push(Value::Bool),
                0x89 => self.stack.push(Value::Bool),
                b'K' => self.int(1)?,
                b'M' => self.int(2)?,
                b'J' => {
                    let value = i32::from_le_bytes(self.array()?);
                    self.stack.push(Value::Int(value.into()));
                }
                0x8a => self.long()?,
                b'G' => {
                    self.take(8)?;
                    self.stack.push(Value::Float);
                }
                b'X' => self.string(4)?,
                0x8c => self.string(1)?,
                b'}' => self.stack.push(Value::Dict(Dict::default())),
                b']' => self.stack.push(Value::List(Rc::default())),
                b')' => self.stack.push(Value::Tuple(Rc::default())),
                b't' => {
                    let items = self.since_mark()?;
                    self.stack.push(Value::Tuple(Rc::new(items)));
                }
                0x85..=0x87 => {
                    let from = self.stack.len().checked_sub((opcode - 0x84).into()).ok_or("the stack is empty")?;
                    let items = self.stack.split_off(from);
                    self.stack.push(Value::Tuple(Rc::new(items)));
                }
                b'q' => {
                    let key = self.length(1)?;
                    self.remember(key)?;
                }
                b'r' => {
                    let key = self.length(4)?;
                    self.remember(key)?;
                }
                0x94 => self.remember(self.memo.len())?,
                b'h' => {
                    let key = self.length(1)?;
                    self.recall(key)?;
                }
                b'j' => {
                    let key = self.length(4)?;
                    self.recall(key)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set_items(vec![key, value])?;
                }
                b'u' => {
                    let items = self.since_mark()?;
                    self.set_items(items)?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.since_mark()?;
                    self.append(items)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.stack.push(named(&module, &name)?);
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (Value::Str(module), Value::Str(name)) = (module, name) else {
                        return Err("a name that is not text".into());
                    };
                    self.stack.push(named(&module, &name)?);
                }
                b'Q' => self.persistent()?,
                b'R' => self.call()?,
                // The state of an OrderedDict (its `_metadata`) says nothing about the tensors.
                b'b' => {
                    self.pop()?;
                    if !matches!(self.stack.last(), Some(Value::Dict(_))) {
                        return Err("it sets the state of something that is not a dictionary".into());
                    }
                }
                other => {
                    return Err(format!("it holds the pickle instruction 0x{other:02x}, which no state dict needs"));
                }
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len()).ok_or("it ends too early")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| "it ends too early".to_owned())
    }

    fn length(&mut self, bytes: usize) -> Result<usize, String> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |value, &byte| value << 8 | usize::from(byte)))
    }

    fn int(&mut self, bytes: usize) -> Result<(), String> {
        let value = self.length(bytes)?;
        self.stack.push(Value::Int(value as i64));
        Ok(())
    }

    /// A little-endian two's complement number of up to 8 bytes.
    fn long(&mut self) -> Result<(), String> {
        let count = self.length(1)?;
        if count > 8 {
            return Err("a number of more than 64 bits".into());
        }
        let bytes = self.take(count)?;
        let negative = bytes.last().is_some_and(|&top| top & 0x80 != 0);
        let mut whole = [if negative { 0xff } else { 0 }; 8];
        whole[..count].copy_from_slice(bytes);
        self.stack.push(Value::Int(i64::from_le_bytes(whole)));
        Ok(())
    }

    fn string(&mut self, length_bytes: usize) -> Result<(), String> {
        let length = self.length(length_bytes)?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| "a text that is not UTF-8")?;
        self.stack.push(Value::Str(text.into()));
        Ok(())
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or("it ends too early")?;
        let line = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.at += length + 1;
        Ok(line)
    }

    fn pop(&mut self) -> Result<Value, String> {
        self.stack.pop().ok_or_else(|| "the stack is empty".to_owned())
    }

    fn since_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.stack.iter().rposition(|value| matches!(value, Value::Mark)).ok_or("a mark is missing")?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn remember(&mut self, key: usize) -> Result<(), String> {
        let value = self.stack.last().ok_or("the stack is empty")?.clone();
        self.memo.insert(key, value);
        Ok(())
    }

    fn recall(&mut self, key: usize) -> Result<(), String> {
        let value = self.memo.get(&key).ok_or("it recalls what it never stored")?.clone();
        self.stack.push(value);
        Ok(())
    }

    fn set_items(&mut self, items: Vec<Value>) -> Result<(), String> {
        let Some(Value::Dict(dict)) = self.stack.last() else {
            return Err("it sets an item of something that is not a dictionary".into());
        };
        if !items.len().is_multiple_of(2) {
            return Err("a key without a value".into());
        }
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            dict.borrow_mut().push((key, value));
        }
        Ok(())
    }

    fn append(&mut self, items: Vec<Value>) -> Result<(), String> {
        let Some(Value::List(list)) = self.stack.last() else {
            return Err("it appends to something that is not a list".into());
        };
        list.borrow_mut().extend(items);
        Ok(())
    }

    /// `('storage', type, key, location, size)` stands for an entry of the archive.
    fn persistent(&mut self) -> Result<(), String> {
        let Value::Tuple(id) = self.pop()? else {
            return Err("a persistent id that is not a tuple".into());
        };
        match id.as_slice() {
            [Value::Str(tag), Value::StorageType(kind), Value::Str(key), ..] if &**tag == "storage" => {
                self.stack.push(Value::Storage(kind.clone(), key.clone()));
                Ok(())
            }
            _ => Err("a persistent id that is not a storage".into()),
        }
    }

    fn call(&mut self) -> Result<(), String> {
        let Value::Tuple(arguments) = self.pop()? else {
            return Err("a call without arguments".into());
        };
        let callable = match self.pop()? {
            Value::Name(callable) => callable,
            _ => return Err("it calls something that is not a function".into()),
        };
        let result = match (callable, arguments.as_slice()) {
            (Callable::OrderedDict, []) => Value::Dict(Dict::default()),
            (Callable::RebuildParameter, [tensor @ Value::Tensor(_), ..]) => tensor.clone(),
            (Callable::RebuildTensor, [Value::Storage(storage, key), Value::Int(offset), shape, strides, ..]) => {
                let (Some(shape), Some(strides)) = (shape.ints(), strides.ints()) else {
                    return Err("a tensor whose shape is not made of numbers".into());
                };
                Value::Tensor(Rc::new(TensorRef {
                    storage: storage.clone(),
                    key: key.clone(),
                    offset: *offset,
                    shape,
                    strides,
                }))
            }
            (callable, _) => {
                return Err(format!("it calls {callable:?} with other arguments than torch does"));
            }
        };
        self.stack.push(result);
        Ok(())
    }
}

fn named(module: &str, name: &str) -> Result<Value, String> {
    match (module, name) {
        ("collections", "OrderedDict") => Ok(Value::Name(Callable::OrderedDict)),
        ("torch._utils", "_rebuild_tensor_v2") => Ok(Value::Name(Callable::RebuildTensor)),
        ("torch._utils", "_rebuild_parameter") => Ok(Value::Name(Callable::RebuildParameter)),
        ("torch" | "torch.storage", kind) if kind.ends_with("Storage") => Ok(Value::StorageType(kind.into())),
        _ => Err(format!(
            "it wants to load {module}.{name}; a state dict holds nothing but tensors and plain containers"
        )),
    }
}
