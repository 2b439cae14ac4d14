// A FIFO in one growing array: unlike std::deque it allocates nothing once it is as large as it
// gets.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace catena {

template <typename T>
class Ring {
 public:
  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  T& front() { return items_[head_]; }
  T& back() { return (*this)[size_ - 1]; }
  // The i-th oldest; i < size().
  T& operator[](size_t i) { return items_[(head_ + i) & (items_.size() - 1)]; }
  const T& operator[](size_t i) const { return items_[(head_ + i) & (items_.size() - 1)]; }

  void push_back(T item) {
    if (size_ == items_.size()) Grow();
    (*this)[size_++] = std::move(item);
  }
  void pop_front() {
    items_[head_] = T{};
    head_ = (head_ + 1) & (items_.size() - 1);
    --size_;
  }
  void pop_back() {
    back() = T{};
    --size_;
  }
  void clear() {
    while (!empty()) pop_front();
  }

 private:
  void Grow() {
    std::vector<T> larger(items_.empty() ? 8 : items_.size() * 2);
    for (size_t i = 0; i < size_; ++i) larger[i] = std::move((*this)[i]);
    items_ = std::move(larger);
    head_ = 0;
  }

  std::vector<T> items_;  // capacity is a power of two
  size_t head_ = 0;
  size_t size_ = 0;
};

}  // namespace catena
