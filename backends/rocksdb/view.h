// What a command sees of the data: everything executed before it, an expired key not at all.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace catena::rocks {

// A key's value. Kept and used again by callers, so that reading allocates nothing once warm.
struct Item {
  static constexpr int64_t kNoDeadline = -1;

  std::string value;
  int64_t deadline_ms = kNoDeadline;  // absolute, since 1970
};

// Walks the keys in the order of the database's comparator. Valid until the view changes.
class Cursor {
 public:
  virtual ~Cursor() = default;
  virtual void SeekToFirst() = 0;
  virtual void SeekToLast() = 0;
  virtual void Seek(std::string_view key) = 0;         // the first key at or behind `key`
  virtual void SeekForPrev(std::string_view key) = 0;  // the last key at or before `key`
  virtual bool Valid() const = 0;
  virtual void Next() = 0;
  virtual void Prev() = 0;
  virtual std::string_view key() const = 0;  // until the cursor moves
  // The value may be read from the database only now; a key that has gone since is empty.
  virtual void Read(Item& item) = 0;
};

class View {
 public:
  virtual ~View() = default;

  // False: there is no such key; `item` is then unspecified.
  virtual bool Get(std::string_view key, Item& item) = 0;
  virtual bool Has(std::string_view key) = 0;
  virtual void Put(std::string_view key, std::string_view value, int64_t deadline_ms) = 0;
  virtual void Delete(std::string_view key) = 0;
  virtual void Clear() = 0;  // every key
  virtual std::unique_ptr<Cursor> Walk() = 0;
  // The database's comparator, of keys: < 0, 0, > 0.
  virtual int Compare(std::string_view a, std::string_view b) const = 0;
  virtual uint64_t CountKeys() = 0;  // exact; walks them all

  virtual int64_t NowMs() const = 0;  // of this command; the same for all of a transaction
  virtual uint64_t Random() = 0;
};

}  // namespace catena::rocks
