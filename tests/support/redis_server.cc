#include "tests/support/redis_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

namespace catena::test {

DirectClient::DirectClient(int port) : context_(redisConnect("127.0.0.1", port)) {}

Reply DirectClient::Run(const std::vector<std::string>& arguments) {
  std::vector<const char*> data;
  std::vector<size_t> sizes;
  for (const std::string& argument : arguments) {
    data.push_back(argument.data());
    sizes.push_back(argument.size());
  }
  if (!connected()) return nullptr;
  void* reply =
      redisCommandArgv(context_.get(), static_cast<int>(data.size()), data.data(), sizes.data());
  return Reply(static_cast<redisReply*>(reply));
}

std::string DirectClient::Text(const std::vector<std::string>& arguments) {
  const Reply reply = Run(arguments);
  if (!reply) return "disconnected";
  if (reply->type == REDIS_REPLY_INTEGER) return std::to_string(reply->integer);
  return reply->str ? std::string(reply->str, reply->len) : std::string();
}

int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  bind(fd, reinterpret_cast<sockaddr*>(&address), size);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  close(fd);
  return ntohs(address.sin_port);
}

RedisServer::RedisServer(std::vector<std::string> options)
    : options_(std::move(options)), port_(FreePort()) {
  std::string pattern = (std::filesystem::temp_directory_path() / "catena-redis-XXXXXX").string();
  if (!mkdtemp(pattern.data())) throw std::runtime_error("no temporary directory");
  directory_ = pattern;
  Spawn();
}

RedisServer::~RedisServer() {
  Signal(SIGKILL);
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

void RedisServer::Spawn() {
  std::vector<std::string> arguments = {"redis-server", "--port", std::to_string(port_), "--dir",
                                        directory_, "--bind", "127.0.0.1", "--save", "",
                                        "--daemonize", "no", "--logfile", directory_ + "/redis.log",
                                        // DEBUG DIGEST and the like; a word that older servers lack
                                        // would keep them from starting.
                                        "--enable-debug-command", "yes"};
  arguments.insert(arguments.end(), options_.begin(), options_.end());
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that crashes leaves no server behind
    const int null = open("/dev/null", O_RDWR);
    dup2(null, STDOUT_FILENO);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  for (int attempt = 0; attempt < 1000; ++attempt) {
    DirectClient client(port_);
    // An answer of any kind: with a password it is an error.
    if (client.connected() && client.Run({"PING"})) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  throw std::runtime_error("redis-server did not start");
}

void RedisServer::Signal(int signal) {
  if (pid_ <= 0) return;
  kill(pid_, signal);
  if (signal != SIGKILL && signal != SIGTERM) return;
  if (signal == SIGTERM) kill(pid_, SIGCONT);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void RedisServer::Restart() { Spawn(); }

int RedisServer::LogLines(const std::string& text) const {
  std::ifstream log(directory_ + "/redis.log");
  int count = 0;
  for (std::string line; std::getline(log, line);) count += line.find(text) != std::string::npos;
  return count;
}

std::string RedisServer::Info(const std::string& field) const {
  const std::string text = Client().Text({"INFO"});
  const size_t at = text.find("\n" + field + ":");
  if (at == std::string::npos) return "";
  const size_t begin = at + field.size() + 2;
  return text.substr(begin, text.find('\r', begin) - begin);
}

}  // namespace catena::test
