#include "coordinator/server.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "proxy/base/log.h"
#include "proxy/resp/decoder.h"
#include "proxy/resp/encoder.h"

namespace catena::coordinator {

// One connection. Held by the server; what comes back later (an operator's choice) holds it weakly.
class Server::Session final : public io::StreamHandler,
                              public Subscriber,
                              public std::enable_shared_from_this<Server::Session> {
 public:
  Session(Server& server, uint64_t number, std::unique_ptr<io::Stream> stream)
      : server_(server),
        number_(number),
        stream_(std::move(stream)),
        acceptor_(server.options_.credentials, server.reactor_.RandomBytes(16)),
        decoder_({server.options_.message_bytes_max, /*elements_max=*/8,
                  /*inline_bytes_max=*/1024, /*nesting_max=*/2}) {
    stream_->SetHandler(this);
    proof_timer_ = server_.reactor_.MakeTimer([this] { Drop("no proof of the secret in time"); });
    proof_timer_->Start(server_.options_.proof_timeout);
  }

  // Subscriber
  uint64_t number() const override { return number_; }
  bool proven() const { return proven_; }
  void SendAnswer(const HeartbeatAnswer& answer) override {
    Send({"HEARTBEAT", EncodeAnswer(answer)});
  }
  void SendConfiguration(const HeartbeatAnswer& news) override {
    Send({"CONFIGURATION", EncodeAnswer(news)});
  }
  void SendNotLeader(const std::string& leader) override { Send({"NOTLEADER", leader}); }
  void Drop(const std::string& reason) override {
    if (closing_) return;
    closing_ = true;
    log::Info("connection_dropped",
              {{"peer", stream_->PeerName()}, {"node", life_ ? life_->node : ""}, {"why", reason}});
    // The caller may be in the middle of this very session, or of a chain's subscribers.
    server_.reactor_.Defer([weak = weak_from_this()] {
      if (const auto session = weak.lock()) session->End();
    });
  }

  // io::StreamHandler
  void OnRead(std::string_view bytes) override {
    if (closing_) return;
    const auto self = shared_from_this();
    input_.append(bytes);
    if (!proven_ && !Prove()) return;
    Serve();
  }
  void OnClosed(std::string_view reason) override {
    closing_ = true;
    log::Debug("connection_closed", {{"peer", stream_->PeerName()}, {"why", reason}});
    const auto self = shared_from_this();
    server_.Remove(number_);
    LeaveChain();
  }

  void End() {
    const auto self = shared_from_this();
    stream_->CloseAfterFlush();
    server_.Remove(number_);
    LeaveChain();
  }

 private:
  struct LifeHeard {
    std::string chain;
    NodeId node;
    Incarnation incarnation;
  };

  bool Prove() {
    std::string out;
    const Result<bool> proven = acceptor_.Feed(input_, out);
    stream_->Write(out);
    if (!proven) {
      Drop(proven.error().message);
      return false;
    }
    proven_ = *proven;
    if (proven_) {
      proof_timer_->Stop();
    } else if (input_.size() > 4096) {
      Refuse("ERR too much before the proof");
    }
    return proven_;
  }

  void Serve() {
    size_t used = 0;
    while (!closing_) {
      resp::Command command;
      size_t consumed = 0;
      const std::string_view rest = std::string_view(input_).substr(used);
      const resp::Progress progress = decoder_.Decode(rest, command, consumed);
      if (progress == resp::Progress::kError) return Refuse("ERR " + decoder_.error());
      if (progress == resp::Progress::kComplete) Dispatch(command.arguments);
      used += consumed;
      if (progress == resp::Progress::kNeedMore) break;
    }
    input_.erase(0, used);
    if (input_.size() > 2 * server_.options_.message_bytes_max) Refuse("ERR message too long");
  }

  void Dispatch(const std::vector<std::string_view>& arguments) {
    const std::string_view name = arguments[0];
    if (name == "CATENA.HEARTBEAT" && arguments.size() == 2) return Heartbeat(arguments[1]);
    if (name == "CATENA.STATUS" && arguments.size() == 1) return SendStatus();
    if (name == "CATENA.CHOOSE" && arguments.size() == 3) {
      return Choose(std::string(arguments[1]), std::string(arguments[2]));
    }
    if (name == "CATENA.DRAIN" && arguments.size() == 3) {
      return Wish(std::string(arguments[1]), arguments[2]);
    }
    if (name == "CATENA.EVENTS" && arguments.size() == 2) {
      return SendEvents(std::string(arguments[1]));
    }
    Refuse(
        "ERR unknown command; a coordinator understands CATENA.HEARTBEAT json, CATENA.STATUS, "
        "CATENA.CHOOSE chain node, CATENA.DRAIN chain json and CATENA.EVENTS chain");
  }

  void Heartbeat(std::string_view json) {
    const Result<NodeReport> report = DecodeReport(json);
    if (!report) return Refuse("ERR " + report.error().message);
    const LifeHeard life{report->chain, report->node, report->incarnation};
    if (life_ && (life_->chain != life.chain || life_->node != life.node)) {
      return Refuse("ERR one connection speaks for one node");
    }
    if (life_ && life_->incarnation != life.incarnation) LeaveChain();
    life_ = life;
    server_.controller_.OnHeartbeat(*this, *report);
  }

  void SendStatus() {
    const std::optional<ClusterStatus> status = server_.controller_.Status();
    if (!status) return SendNotLeader(server_.controller_.LeaderAddress());
    std::string out;
    resp::AppendBulk(out, EncodeStatus(*status));
    Write(out);
  }

  void Choose(const std::string& chain, const std::string& node) {
    if (!server_.controller_.Leads()) return SendNotLeader(server_.controller_.LeaderAddress());
    server_.controller_.Choose(chain, node, AnswerWhenDone());
  }

  void Wish(const std::string& chain, std::string_view json) {
    if (!server_.controller_.Leads()) return SendNotLeader(server_.controller_.LeaderAddress());
    const Result<DrainRequest> request = DecodeDrainRequest(json);
    if (!request) return Refuse("ERR " + request.error().message);
    server_.controller_.Wish(chain, *request, AnswerWhenDone());
  }

  // +OK, or why not, if this session still stands then.
  ChainKeeper::ChoiceDone AnswerWhenDone() {
    return [weak = weak_from_this()](const Result<bool>& result) {
      const auto session = weak.lock();
      if (!session || session->closing_) return;
      std::string out;
      if (result) {
        resp::AppendSimple(out, "OK");
      } else {
        resp::AppendError(out, "ERR " + result.error().message);
      }
      session->Write(out);
    };
  }

  void SendEvents(const std::string& chain) {
    if (!server_.controller_.Leads()) return SendNotLeader(server_.controller_.LeaderAddress());
    const Result<EventHistory> events = server_.controller_.Events(chain);
    std::string out;
    if (events) {
      resp::AppendBulk(out, EncodeEvents(*events));
    } else {
      resp::AppendError(out, "ERR " + events.error().message);
    }
    Write(out);
  }

  void Send(std::initializer_list<std::string_view> message) {
    std::string out;
    resp::AppendCommand(out, message);
    Write(out);
  }

  void Write(std::string_view bytes) {
    if (closing_) return;
    stream_->Write(bytes);
    if (stream_->UnsentBytes() > server_.options_.unsent_bytes_max) Drop("reads no answers");
  }

  void Refuse(const std::string& error) {
    std::string out;
    resp::AppendError(out, error);
    Write(out);
    Drop(error);
  }

  void LeaveChain() {
    if (!life_) return;
    const LifeHeard life = *life_;
    life_.reset();
    server_.controller_.OnGone(*this, life.chain, life.node, life.incarnation);
  }

  Server& server_;
  const uint64_t number_;
  std::unique_ptr<io::Stream> stream_;
  auth::Acceptor acceptor_;
  resp::CommandDecoder decoder_;
  std::unique_ptr<io::Timer> proof_timer_;
  std::string input_;
  bool proven_ = false;
  bool closing_ = false;
  std::optional<LifeHeard> life_;
};

Server::Server(io::Reactor& reactor, Controller& controller, Options options)
    : reactor_(reactor), controller_(controller), options_(std::move(options)) {}

// A chain must not go on knowing subscribers that are gone.
Server::~Server() { Stop(); }

Result<bool> Server::Start() {
  auto listener = reactor_.Listen(
      options_.listen, [this](std::unique_ptr<io::Stream> stream) { Accept(std::move(stream)); });
  if (!listener) return Fail(listener.error().message);
  listener_ = std::move(*listener);
  return true;
}

void Server::Stop() {
  listener_.reset();
  const auto sessions = sessions_;
  for (const auto& [number, session] : sessions) session->End();
}

void Server::Accept(std::unique_ptr<io::Stream> stream) {
  if (sessions_.size() >= options_.connections_max) {
    // The oldest that has not proved the secret gives way: waiting keeps nobody else out.
    const auto unproven = std::find_if(sessions_.begin(), sessions_.end(),
                                       [](const auto& item) { return !item.second->proven(); });
    if (unproven == sessions_.end()) {
      log::Warn("connection_refused",
                {{"peer", stream->PeerName()}, {"why", "too many connections"}});
      return;
    }
    const std::shared_ptr<Session> oldest = unproven->second;
    oldest->End();
  }
  const uint64_t number = next_number_++;
  sessions_[number] = std::make_shared<Session>(*this, number, std::move(stream));
}

void Server::Remove(uint64_t number) { sessions_.erase(number); }

}  // namespace catena::coordinator
