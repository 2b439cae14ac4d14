// A version byte, then the fields in order: numbers of 8 bytes, little endian; flags and `sync` a
// byte each; texts behind a length byte.
#include "backends/rocksdb/rocks_store_state.h"

#include "backends/rocksdb/rocks_store_bytes.h"

namespace catena::rocks {
namespace {

constexpr uint8_t kFormat = 1;

}  // namespace

std::string EncodeState(const StoreState& state) {
  ByteWriter out;
  out.Byte(kFormat);
  out.Text(state.place.replid);
  out.Number(state.place.position.value());
  out.Byte(state.from_chain);
  out.Text(state.run_id);
  out.Text(state.database_id);
  out.Number(state.sequence);
  out.Number(state.deadlines);
  out.Byte(state.deadlines_fit);
  out.Byte(state.begins_session);
  out.Byte(state.clean);
  out.Byte(static_cast<uint8_t>(state.sync));
  return std::move(out.bytes);
}

Result<StoreState> DecodeState(std::string_view bytes) {
  ByteReader in{bytes};
  StoreState state;
  const uint8_t format = in.Byte();
  if (in.ok() && format != kFormat) {
    return Fail("Catena's record in it has format " + std::to_string(format) +
                ", and this version knows only " + std::to_string(kFormat) +
                ": it was written by a newer one");
  }
  state.place.replid = in.Text();
  state.place.position = Position(in.Number());
  state.from_chain = in.Byte() != 0;
  state.run_id = in.Text();
  state.database_id = in.Text();
  state.sequence = in.Number();
  state.deadlines = in.Number();
  state.deadlines_fit = in.Byte() != 0;
  state.begins_session = in.Byte() != 0;
  state.clean = in.Byte() != 0;
  const uint8_t sync = in.Byte();
  state.sync = static_cast<Sync>(sync);
  if (!in.ok() || !in.AtEnd() || sync > static_cast<uint8_t>(Sync::kNever)) {
    return Fail("Catena's record in it is damaged");
  }
  return state;
}

}  // namespace catena::rocks
