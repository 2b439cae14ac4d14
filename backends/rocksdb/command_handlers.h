// One function for each command: runs it, its number of arguments having been checked.
#pragma once

#include "backends/rocksdb/command_call.h"

namespace catena::rocks::handlers {

// commands_strings.cc
void Append(Call& call);
void Get(Call& call);
void GetDel(Call& call);
void GetEx(Call& call);
void GetRange(Call& call);
void GetSet(Call& call);
void MGet(Call& call);
void MSet(Call& call);
void MSetNx(Call& call);
void PSetEx(Call& call);
void Set(Call& call);
void SetEx(Call& call);
void SetNx(Call& call);
void SetRange(Call& call);
void StrLen(Call& call);

// commands_numbers.cc
void Decr(Call& call);
void DecrBy(Call& call);
void Incr(Call& call);
void IncrBy(Call& call);
void IncrByFloat(Call& call);

// commands_lcs.cc
void Lcs(Call& call);

// commands_bits.cc
void BitCount(Call& call);
void BitOp(Call& call);
void BitPos(Call& call);
void GetBit(Call& call);
void SetBit(Call& call);

// commands_bitfield.cc
void BitField(Call& call);
void BitFieldRo(Call& call);

// commands_keys.cc
void Copy(Call& call);
void DbSize(Call& call);
void Del(Call& call);
void Exists(Call& call);
void FlushAll(Call& call);
void MemoryHelp(Call& call);
void MemoryUsage(Call& call);
void ObjectEncoding(Call& call);
void ObjectFreq(Call& call);
void ObjectHelp(Call& call);
void ObjectIdleTime(Call& call);
void ObjectRefCount(Call& call);
void Rename(Call& call);
void RenameNx(Call& call);
void Type(Call& call);

// commands_expiry.cc
void Expire(Call& call);
void ExpireAt(Call& call);
void ExpireTime(Call& call);
void PExpire(Call& call);
void PExpireAt(Call& call);
void PExpireTime(Call& call);
void PTtl(Call& call);
void Persist(Call& call);
void Ttl(Call& call);

// commands_walk.cc
void Digest(Call& call);
void Keys(Call& call);
void RandomKey(Call& call);
void Range(Call& call);
void Scan(Call& call);

// commands_dump.cc
void Dump(Call& call);
void Restore(Call& call);

// commands_connection.cc
void Auth(Call& call);
void ClientGetName(Call& call);
void ClientId(Call& call);
void ClientNoEvict(Call& call);
void ClientSetName(Call& call);
void ClientUnblock(Call& call);
void Echo(Call& call);
void Hello(Call& call);
void Ping(Call& call);
void Select(Call& call);

// commands_server.cc
void ConfigGet(Call& call);
void ConfigHelp(Call& call);
void ConfigResetStat(Call& call);
void ConfigRewrite(Call& call);
void ConfigSet(Call& call);
void EmptyList(Call& call);  // of what is not recorded: SLOWLOG GET, LATENCY LATEST
void Info(Call& call);
void LatencyHelp(Call& call);
void PubSubHelp(Call& call);
void SlowLogHelp(Call& call);
void SlowLogReset(Call& call);
void Time(Call& call);
void Zero(Call& call);  // SLOWLOG LEN, LATENCY RESET

// command_description.cc
void Command(Call& call);
void CommandCount(Call& call);
void CommandDocs(Call& call);
void CommandGetKeys(Call& call);
void CommandGetKeysAndFlags(Call& call);
void CommandHelp(Call& call);
void CommandInfo(Call& call);
void CommandList(Call& call);

}  // namespace catena::rocks::handlers
