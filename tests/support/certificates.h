// Certificates for tests, made in a moment.
#pragma once

#include <string>

#include "proxy/io/tls_context.h"

namespace catena::test {

struct CertificateOptions {
  std::string subject_alternative = "IP:127.0.0.1,DNS:localhost";
  int days_from = -1, days_to = 30;  // valid, counted from now
};

// A directory with a CA ("ca.pem") and what it issues; removed with it.
class Authority {
 public:
  Authority();
  ~Authority();
  Authority(const Authority&) = delete;

  // Writes NAME.pem and NAME.key and returns the three files.
  io::TlsFiles Issue(const std::string& name, const CertificateOptions& options = {}) const;
  std::string Path(const std::string& file) const { return directory_ + "/" + file; }

 private:
  struct Identity;
  std::string directory_;
  std::unique_ptr<Identity> self_;
};

void WriteFile(const std::string& path, const std::string& text);

}  // namespace catena::test
