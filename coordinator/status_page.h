// The page that an admin port serves: status_page.html, compiled in. It asks for status.json once a
// second and draws that.
#pragma once

namespace catena::coordinator {

extern const char* const kStatusPage;

}  // namespace catena::coordinator
