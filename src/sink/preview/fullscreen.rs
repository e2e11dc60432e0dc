//! Asks the window manager of an X server to give a window the whole screen, or to take it back.

use minifb::Window;
use raw_window_handle::{HasWindowHandle, RawWindowHandle};
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{AtomEnum, ClientMessageEvent, ConnectionExt, EventMask};
use x11rb::rust_connection::RustConnection;

/// The action of a `_NET_WM_STATE` message that turns a state on or off, whichever it is not.
const TOGGLE: u32 = 2;
/// Who asks: an application, not a pager.
const APPLICATION: u32 = 1;

/// Whether the window manager was asked. There may be none, one that cannot, or no X server at all.
pub(super) fn toggle(window: &Window) -> bool {
    let id = match window.window_handle().map(|handle| handle.as_raw()) {
        Ok(RawWindowHandle::Xlib(handle)) => u32::try_from(handle.window).ok(),
        _ => None,
    };
    id.and_then(ask).is_some()
}

/// The protocol is the Extended Window Manager Hints of freedesktop.org: a manager lists what it can do in
/// `_NET_SUPPORTED` of the root window, and hears `_NET_WM_STATE` messages that are sent there.
fn ask(window: u32) -> Option<()> {
    let (x, screen) = RustConnection::connect(None).ok()?;
    let root = x.setup().roots.get(screen)?.root;
    let atom = |name: &[u8]| Some(x.intern_atom(false, name).ok()?.reply().ok()?.atom);
    let (supported, state) = (atom(b"_NET_SUPPORTED")?, atom(b"_NET_WM_STATE")?);
    let fullscreen = atom(b"_NET_WM_STATE_FULLSCREEN")?;
    let abilities = x.get_property(false, root, supported, AtomEnum::ATOM, 0, 1024).ok()?.reply().ok()?;
    abilities.value32()?.find(|able| *able == fullscreen)?;
    let message = ClientMessageEvent::new(32, window, state, [TOGGLE, fullscreen, 0, APPLICATION, 0]);
    let heard = EventMask::SUBSTRUCTURE_NOTIFY | EventMask::SUBSTRUCTURE_REDIRECT;
    x.send_event(false, root, heard, message).ok()?.check().ok()
}
