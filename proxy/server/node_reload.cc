// What of a node's options may change while it runs.
#include <algorithm>
#include <utility>

#include "proxy/server/node.h"

namespace catena::server {

const User* FindUser(const std::vector<User>& users, std::string_view name) {
  const auto found = std::ranges::find(users, name, &User::name);
  return found != users.end() ? &*found : nullptr;
}

void Node::Reconfigure(Options options) {
  // Sessions point at the rights of former users until they have been reviewed.
  const Options former = std::exchange(options_, std::move(options));
  replica_.SetBacklogBytes(options_.backlog_bytes);
  join_source_.SetPinBytesMax(options_.join_bytes_max);
  ReviewUsers(former.users);
}

void Node::ReviewUsers(const std::vector<User>& former) {
  const std::vector<User>& users = options_.users;
  std::vector<Session*> closing;
  for (auto& [id, session] : sessions_) {
    if (session->forwarded || session->closed()) continue;
    // Without users everybody is "default", who needs no password.
    if (!session->authenticated && users.empty()) session->authenticated = true;
    if (!session->authenticated) continue;
    const User* before = FindUser(former, session->user);
    const User* now = FindUser(users, session->user);
    if (now == nullptr && !(users.empty() && session->user == "default")) {
      closing.push_back(session.get());
      continue;
    }
    const command::UserRights everything;
    const command::UserRights& had = before != nullptr ? before->rights : everything;
    const bool loses_channels = now != nullptr && !now->rights.HasChannelsOf(had);
    if (loses_channels && session->state && session->state->Summary().subscribed()) {
      closing.push_back(session.get());
      continue;
    }
    session->rights = now == nullptr || now->rights.unlimited() ? nullptr : &now->rights;
  }
  for (Session* session : closing) {
    session->rights = nullptr;
    session->CloseNow("its user may no longer be connected");
  }
}

}  // namespace catena::server
