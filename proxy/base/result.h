// Expected failures as values: Result<T> holds a T or an Error with a text meant for a person.
#pragma once

#include <string>
#include <tl/expected.hpp>

namespace catena {

struct Error {
  std::string message;
};

template <typename T>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> Fail(std::string message) {
  return tl::unexpected<Error>(Error{std::move(message)});
}

}  // namespace catena
