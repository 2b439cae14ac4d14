// Gives a buffer's memory back. Assigning an empty one need not: a std::string keeps what it has.
#pragma once

namespace catena {

template <typename Buffer>
void FreeMemory(Buffer& buffer) {
  Buffer().swap(buffer);
}

}  // namespace catena
