#include "tests/support/certificates.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "proxy/base/check.h"

namespace catena::test {
namespace {

void AddExtension(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str());
  CATENA_CHECK(extension != nullptr, "an extension of a test's certificate");
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

void SetName(X509_NAME* name, const std::string& text) {
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(text.c_str()), -1, -1, 0);
}

}  // namespace

struct Authority::Identity {
  Identity(const std::string& name, const CertificateOptions& options, const Identity* issuer)
      : key(EVP_EC_gen("P-256")), certificate(X509_new()) {
    static long serial = 0;
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(certificate), options.days_from * 86400L);
    X509_gmtime_adj(X509_getm_notAfter(certificate), options.days_to * 86400L);
    X509_set_pubkey(certificate, key);
    SetName(X509_get_subject_name(certificate), name);
    X509* by = issuer != nullptr ? issuer->certificate : certificate;
    X509_set_issuer_name(certificate, X509_get_subject_name(by));
    if (issuer == nullptr) {
      AddExtension(certificate, by, NID_basic_constraints, "critical,CA:TRUE");
    } else {
      AddExtension(certificate, by, NID_subject_alt_name, options.subject_alternative);
    }
    X509_sign(certificate, issuer != nullptr ? issuer->key : key, EVP_sha256());
  }
  ~Identity() {
    X509_free(certificate);
    EVP_PKEY_free(key);
  }
  void Write(const std::string& stem) const {
    std::FILE* file = std::fopen((stem + ".pem").c_str(), "w");
    PEM_write_X509(file, certificate);
    std::fclose(file);
    file = std::fopen((stem + ".key").c_str(), "w");
    PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(file);
  }

  EVP_PKEY* key;
  X509* certificate;
};

Authority::Authority() {
  char path[] = "/tmp/catena_certificates_XXXXXX";
  CATENA_CHECK(mkdtemp(path) != nullptr, "a directory for a test's certificates");
  directory_ = path;
  CertificateOptions years;
  years.days_to = 3650;
  self_ = std::make_unique<Identity>("test CA " + directory_, years, nullptr);
  self_->Write(Path("ca"));
}

Authority::~Authority() { std::filesystem::remove_all(directory_); }

io::TlsFiles Authority::Issue(const std::string& name, const CertificateOptions& options) const {
  Identity(name, options, self_.get()).Write(Path(name));
  return {Path("ca.pem"), Path(name + ".pem"), Path(name + ".key"), true};
}

void WriteFile(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

}  // namespace catena::test
