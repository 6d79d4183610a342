/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A real modem: libusb on a usbfs descriptor that somebody else has opened (a sandboxed worker can open
 * nothing). Everything is asynchronous; completions are taken in by usb_process(), which transport.c calls
 * when libusb's descriptors are ready. No thread, no libusb timeout.
 */

#include <errno.h>
#include <string.h>
#include <libusb.h>

#include "transport/ops.h"
#include "transport/usb-interface.h"

enum {
    IN_TRANSFERS = 4, /* posted at once, so that a modem never finds the host without one */
    IN_SIZE =
        16384, /* the most that usbfs takes without scatter-gather; a multiple of every bulk packet size */

    OPEN_RETRY_MS = 10,
};

/* fwupd and ModemManager open what appears, look at it and close it again; this long they are waited for. */
#define OPEN_PATIENCE (1 * USEC_PER_SEC)
/* How long the hub may take to tell that what looks like a bad cable is a pulled one. */
#define VERDICT_PATIENCE (1 * USEC_PER_SEC)
/* A cancelled transfer is given back by the kernel at once; this is for a host controller that hangs. */
#define CANCEL_PATIENCE (2 * USEC_PER_SEC)

struct usb;

struct in_slot {
    struct usb *usb;
    struct libusb_transfer *transfer;
    bool posted;
    int finished;      /* set by each completion, for waiting on it (libusb wants an int) */
    uint64_t sequence; /* of the last posting */
    uint8_t buffer[IN_SIZE];
};

struct out_slot {
    struct usb *usb;
    struct libusb_transfer *data, *zlp;
    bool data_posted, zlp_posted;
    uint8_t buffer[TRANSPORT_CHUNK_MAX];
};

struct usb {
    struct transport base;
    int fd;
    libusb_context *context;
    libusb_device_handle *handle;
    struct usb_interface interface;
    enum transport_use use;
    bool claimed;
    bool driver_taken; /* and to be given back */
    bool stopping;     /* everything is being cancelled: nothing is posted again */
    int idle;          /* nothing is posted (an int for libusb) */
    uint64_t sequence;
    struct pollfd fds[TRANSPORT_POLL_MAX];
    size_t n_fds;
    struct in_slot in[IN_TRANSFERS];
    struct out_slot out[TRANSPORT_QUEUE_DEPTH];
};

/* The kernel says at the node itself that the device is gone, also when no transfer is there to bring the
 * news. */
static bool is_unplugged(int fd)
{
    struct pollfd p = {.fd = fd};
    return poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR);
}

/* Notes what a libusb call or a transfer's end means. ERROR is what a pulled plug looks like at first. */
static void note_failure(struct usb *u, int *direction, int error)
{
    if (error == -ENODEV) {
        u->base.gone = true;
        return;
    }
    if (*direction != 0)
        return;
    *direction = error;
    if (error == -EIO)
        u->base.verdict_at = deadline_in(VERDICT_PATIENCE);
}

static int error_of_transfer(enum libusb_transfer_status status)
{
    switch (status) {
    case LIBUSB_TRANSFER_COMPLETED:
    case LIBUSB_TRANSFER_CANCELLED:
        return 0;
    case LIBUSB_TRANSFER_NO_DEVICE:
        return -ENODEV;
    case LIBUSB_TRANSFER_STALL:
        return -EPIPE;
    default:
        return -EIO;
    }
}

static int error_of_call(int r)
{
    switch (r) {
    case LIBUSB_SUCCESS:
        return 0;
    case LIBUSB_ERROR_NO_DEVICE:
        return -ENODEV;
    case LIBUSB_ERROR_NO_MEM:
        return -ENOMEM;
    default:
        return -EIO;
    }
}

static void note_idle(struct usb *u)
{
    bool busy = u->base.in_flight > 0;
    for (unsigned i = 0; i < IN_TRANSFERS; i++)
        busy |= u->in[i].posted;
    u->idle = !busy;
}

/* ---- IN ---- */

static void post_in(struct in_slot *slot)
{
    struct usb *u = slot->usb;
    if (slot->posted || u->stopping || u->base.gone || u->base.in_error != 0 || inbox_is_full(&u->base.inbox))
        return;
    int r = error_of_call(libusb_submit_transfer(slot->transfer));
    if (r < 0) {
        note_failure(u, &u->base.in_error, r);
        return;
    }
    slot->posted = true;
    slot->sequence = ++u->sequence;
    u->idle = 0;
}

static void post_all_in(struct usb *u)
{
    for (unsigned i = 0; i < IN_TRANSFERS; i++)
        post_in(&u->in[i]);
}

static void LIBUSB_CALL on_in(struct libusb_transfer *x)
{
    struct in_slot *slot = x->user_data;
    struct usb *u = slot->usb;
    slot->posted = false;
    slot->finished = 1;

    /* What arrived before an error counts. What arrives behind one does not: something is missing in between.
     */
    size_t size = x->actual_length > 0 ? (size_t)x->actual_length : 0;
    bool completed = x->status == LIBUSB_TRANSFER_COMPLETED;
    if (u->base.in_error == 0 && (completed || size > 0)) {
        bool boundary = completed && size < (size_t)x->length; /* only a short packet ends a transfer early */
        int r = inbox_push(&u->base.inbox, slot->buffer, size, boundary);
        if (r < 0)
            note_failure(u, &u->base.in_error, r);
    }
    int r = error_of_transfer(x->status);
    if (r < 0)
        note_failure(u, &u->base.in_error, r);
    post_in(slot);
    note_idle(u);
}

/* ---- OUT ---- */

static void cancel_out(struct usb *u)
{
    for (unsigned i = 0; i < TRANSPORT_QUEUE_DEPTH; i++) {
        if (u->out[i].data_posted)
            libusb_cancel_transfer(u->out[i].data);
        if (u->out[i].zlp_posted)
            libusb_cancel_transfer(u->out[i].zlp);
    }
}

static void LIBUSB_CALL on_out(struct libusb_transfer *x)
{
    struct out_slot *slot = x->user_data;
    struct usb *u = slot->usb;
    if (x == slot->data) {
        slot->data_posted = false;
        u->base.untaken--;
    } else {
        slot->zlp_posted = false;
    }
    if (!slot->data_posted && !slot->zlp_posted)
        u->base.in_flight--;

    int r = error_of_transfer(x->status);
    if (r == 0 && x->status == LIBUSB_TRANSFER_COMPLETED && x->actual_length != x->length)
        r = -EIO;
    if (r < 0) {
        note_failure(u, &u->base.out_error, r);
        cancel_out(u); /* nothing must overtake what was lost */
    }
    note_idle(u);
}

static int post_out(struct usb *u, struct libusb_transfer *x, bool *posted)
{
    int r = error_of_call(libusb_submit_transfer(x));
    if (r < 0) {
        note_failure(u, &u->base.out_error, r);
        return u->base.gone ? -ENODEV : r;
    }
    *posted = true;
    u->idle = 0;
    return 0;
}

static int usb_submit(struct transport *t, const void *data, size_t size, unsigned flags)
{
    struct usb *u = (struct usb *)t;
    struct out_slot *slot = u->out;
    while (slot->data_posted || slot->zlp_posted)
        slot++; /* one is free: in_flight < TRANSPORT_QUEUE_DEPTH */

    if (size > 0)
        memcpy(slot->buffer, data, size);
    libusb_fill_bulk_transfer(slot->data, u->handle, u->interface.out, slot->buffer, (int)size, on_out, slot,
                              0);
    int r = post_out(u, slot->data, &slot->data_posted);
    if (r < 0)
        return r;
    t->in_flight++;
    t->untaken++;

    if (!(flags & TRANSPORT_ZLP) || size == 0 || size % t->max_packet != 0)
        return 0;
    /*
     * The ZLP is an empty transfer of its own behind the data, not USBDEVFS_URB_ZERO_PACKET: that flag is
     * broken on xHCI before Linux 4.3 and ignored or unsupported by some other host controllers
     * (reference/edl.md 2.10, 8 nr. 30), while an empty bulk transfer is plain USB that all of them do and
     * other tools rely on. It costs one URB more, which the queue hides. The slot is free only when both have
     * gone.
     */
    libusb_fill_bulk_transfer(slot->zlp, u->handle, u->interface.out, slot->buffer, 0, on_out, slot, 0);
    return post_out(u, slot->zlp, &slot->zlp_posted);
}

/* ---- waiting, cancelling ---- */

static size_t usb_poll_fds(struct transport *t, struct pollfd *fds)
{
    struct usb *u = (struct usb *)t;
    memcpy(fds, u->fds, u->n_fds * sizeof(*fds));
    return u->n_fds;
}

/* The same from a poll of all descriptors, as it has just been made. */
static bool hung_up(const struct usb *u, const struct pollfd *fds)
{
    for (size_t i = 0; i < u->n_fds; i++)
        if (fds[i].fd == u->fd && fds[i].revents & (POLLHUP | POLLERR))
            return true;
    return false;
}

static void usb_process(struct transport *t, const struct pollfd *fds)
{
    struct usb *u = (struct usb *)t;
    struct timeval none = {0};
    libusb_handle_events_timeout_completed(u->context, &none, NULL);
    if (hung_up(u, fds))
        t->gone = true;
}

/* Handles events until *done or the deadline. Only for what the kernel answers by itself (a cancelled
 * transfer). */
static void process_until(struct usb *u, int *done, usec_t deadline)
{
    while (!*done) {
        usec_t now = now_usec();
        if (now >= deadline)
            return;
        usec_t left = deadline - now;
        struct timeval tv = {(time_t)(left / USEC_PER_SEC), (suseconds_t)(left % USEC_PER_SEC)};
        if (libusb_handle_events_timeout_completed(u->context, &tv, done) < 0)
            return;
    }
}

static void cancel_all(struct usb *u)
{
    u->stopping = true;
    for (unsigned i = 0; i < IN_TRANSFERS; i++)
        if (u->in[i].posted)
            libusb_cancel_transfer(u->in[i].transfer);
    cancel_out(u);
    note_idle(u);
    process_until(u, &u->idle, deadline_in(CANCEL_PATIENCE));
    u->stopping = false;
}

static void usb_resume(struct transport *t)
{
    post_all_in((struct usb *)t);
}

/*
 * A device that sent whole packets and no ZLP leaves its data in a transfer that is not full and never ends
 * (reference/edl.md 2.10). Cancelling the oldest one brings it out; the others stay posted, so nothing is
 * missed.
 */
static bool usb_salvage(struct transport *t)
{
    struct usb *u = (struct usb *)t;
    struct in_slot *oldest = NULL;
    for (unsigned i = 0; i < IN_TRANSFERS; i++)
        if (u->in[i].posted && (!oldest || u->in[i].sequence < oldest->sequence))
            oldest = &u->in[i];
    if (!oldest)
        return false;
    oldest->finished = 0;
    libusb_cancel_transfer(oldest->transfer);
    process_until(u, &oldest->finished, deadline_in(CANCEL_PATIENCE));
    return !inbox_is_empty(&t->inbox);
}

/* ---- recovery ---- */

static int usb_clear_halt(struct transport *t)
{
    struct usb *u = (struct usb *)t;
    cancel_all(u);
    t->in_error = t->out_error = 0;
    int r = error_of_call(libusb_clear_halt(u->handle, u->interface.in));
    if (r == 0)
        r = error_of_call(libusb_clear_halt(u->handle, u->interface.out));
    if (r == -ENODEV || t->gone || is_unplugged(u->fd)) {
        t->gone = true;
        return -ENODEV;
    }
    post_all_in(u);
    return r;
}

static int usb_reset(struct transport *t)
{
    struct usb *u = (struct usb *)t;
    cancel_all(u);
    t->in_error = t->out_error = 0;
    int r = libusb_reset_device(u->handle);
    /* NOT_FOUND: it came back as something else, or somebody took the interface; this descriptor is of no use
     * more. */
    if (r == LIBUSB_ERROR_NOT_FOUND || r == LIBUSB_ERROR_NO_DEVICE || t->gone || is_unplugged(u->fd)) {
        t->gone = true;
        return -ENODEV;
    }
    post_all_in(u);
    return error_of_call(r);
}

/* ---- opening and closing ---- */

static void usb_free(struct transport *t)
{
    struct usb *u = (struct usb *)t;
    if (u->handle) {
        cancel_all(u);
        if (u->claimed)
            libusb_release_interface(u->handle, u->interface.number);
        if (u->driver_taken && !u->base.gone)
            (void)libusb_attach_kernel_driver(u->handle, u->interface.number);
        libusb_close(u->handle);
    }
    for (unsigned i = 0; i < IN_TRANSFERS; i++)
        libusb_free_transfer(u->in[i].transfer);
    for (unsigned i = 0; i < TRANSPORT_QUEUE_DEPTH; i++) {
        libusb_free_transfer(u->out[i].data);
        libusb_free_transfer(u->out[i].zlp);
    }
    if (u->context)
        libusb_exit(u->context);
    close_fd(u->fd);
    inbox_clear(&t->inbox);
    free(u);
}

static struct usb *usb_release(struct usb *u)
{
    usb_free(&u->base);
    return NULL;
}
DEFINE_CLEANUP(struct usb *, usb_release)

static int fail_open(struct usb *u, int r, const char *what, struct error *e)
{
    if (r == LIBUSB_ERROR_NO_DEVICE || is_unplugged(u->fd))
        return error_set(e, ERROR_MODEM_GONE, "the modem was unplugged while it was being opened (%s)", what);
    return error_set(e, ERROR_FAILED, "cannot open the modem's USB device: %s: %s", what, libusb_strerror(r));
}

/* The kernel says "add" before it has chosen a configuration; whoever is quick enough has to wait for that.
 */
static int get_configuration(struct usb *u, struct libusb_config_descriptor **ret)
{
    usec_t deadline = deadline_in(OPEN_PATIENCE);
    for (;;) {
        int r = libusb_get_active_config_descriptor(libusb_get_device(u->handle), ret);
        if (r != LIBUSB_ERROR_NOT_FOUND || now_usec() >= deadline)
            return r;
        struct pollfd p = {.fd = u->fd};
        if (poll(&p, 1, OPEN_RETRY_MS) > 0)
            return LIBUSB_ERROR_NO_DEVICE;
        int configuration;
        (void)libusb_get_configuration(u->handle, &configuration); /* refreshes what libusb remembers */
    }
}

static int not_configured(struct error *e)
{
    return error_set(e, ERROR_WRONG_MODE, "the USB device should have a configuration, but none is active");
}

static int choose_interface(struct usb *u, struct error *e)
{
    struct libusb_config_descriptor *config = NULL;
    int r = get_configuration(u, &config);
    if (r == LIBUSB_ERROR_NOT_FOUND)
        return not_configured(e);
    if (r < 0)
        return fail_open(u, r, "configuration descriptor", e);

    unsigned interfaces = config->bNumInterfaces;
    struct libusb_device_descriptor device = {0};
    (void)libusb_get_device_descriptor(libusb_get_device(u->handle), &device);
    r = u->use == TRANSPORT_DIAG
            ? usb_interface_choose_diag(config, device.idVendor, device.idProduct, &u->interface)
            : usb_interface_choose(config, &u->interface);
    libusb_free_config_descriptor(config);
    if (r < 0 && u->use == TRANSPORT_DIAG)
        return error_set(e, ERROR_WRONG_MODE,
                         "none of the %u interfaces of %04x:%04x is a DIAG interface: this composition does "
                         "not show it",
                         interfaces, device.idVendor, device.idProduct);
    if (r < 0)
        return error_set(
            e, ERROR_WRONG_MODE,
            "the USB device should have a vendor interface (ff/ff) with one bulk IN and one bulk OUT "
            "endpoint, but none of its %u interfaces is one",
            interfaces);
    return 0;
}

/* There is no event for "the other one has let go" or "it is configured", hence the retries; an unplug ends
 * each wait at once. */
static int claim_interface(struct usb *u, struct error *e)
{
    usec_t deadline = deadline_in(OPEN_PATIENCE);
    for (;;) {
        /* qcserial binds to 9008 before anybody else can (3.3), and again after a reset. Its absence is no
         * error. */
        bool taken = libusb_detach_kernel_driver(u->handle, u->interface.number) == 0;
        u->driver_taken = u->driver_taken || (taken && u->use == TRANSPORT_DIAG);
        int r = libusb_claim_interface(u->handle, u->interface.number);
        if (r == 0) {
            u->claimed = true;
            return 0;
        }
        /* NOT_FOUND: not configured yet; a worker's libusb cannot ask for that (worker/syscalls.c). */
        if (r != LIBUSB_ERROR_BUSY && r != LIBUSB_ERROR_NOT_FOUND)
            return fail_open(u, r, "claim of the interface", e);
        if (now_usec() >= deadline && r == LIBUSB_ERROR_NOT_FOUND)
            return not_configured(e);
        if (now_usec() >= deadline)
            return error_set(
                e, ERROR_MODEM_BUSY,
                "interface %u of the modem is in use by another program (fwupd, ModemManager or a flash "
                "tool); it was waited for 1 s",
                u->interface.number);
        struct pollfd p = {.fd = u->fd};
        (void)poll(&p, 1, OPEN_RETRY_MS);
    }
}

static void prepare_in(struct usb *u)
{
    /* Whole packets, or the last one of a full transfer would not fit and be lost. */
    int in_size = (int)(IN_SIZE - IN_SIZE % u->interface.in_max_packet);
    for (unsigned i = 0; i < IN_TRANSFERS; i++)
        libusb_fill_bulk_transfer(u->in[i].transfer, u->handle, u->interface.in, u->in[i].buffer, in_size,
                                  on_in, &u->in[i], 0);
}

/* They do not change before the device goes, and then they are not asked any more. */
static int take_poll_fds(struct usb *u)
{
    const struct libusb_pollfd **list = libusb_get_pollfds(u->context);
    if (!list)
        return -ENOMEM;
    size_t n = 0;
    while (list[n] && n < TRANSPORT_POLL_MAX) {
        u->fds[n] = (struct pollfd){.fd = list[n]->fd, .events = list[n]->events};
        n++;
    }
    bool all = !list[n];
    libusb_free_pollfds(list);
    u->n_fds = n;
    return all ? 0 : -E2BIG;
}

static const struct transport_ops usb_ops = {
    .poll_fds = usb_poll_fds,
    .process = usb_process,
    .resume = usb_resume,
    .salvage = usb_salvage,
    .submit = usb_submit,
    .clear_halt = usb_clear_halt,
    .reset = usb_reset,
    .free = usb_free,
};

/* ---- before there is a device ---- */

static int allocate_transfers(struct usb *u)
{
    for (unsigned i = 0; i < IN_TRANSFERS; i++) {
        u->in[i].usb = u;
        u->in[i].transfer = libusb_alloc_transfer(0);
        if (!u->in[i].transfer)
            return -ENOMEM;
        explicit_bzero(u->in[i].buffer, IN_SIZE); /* its pages are there before a modem is */
    }
    for (unsigned i = 0; i < TRANSPORT_QUEUE_DEPTH; i++) {
        u->out[i].usb = u;
        u->out[i].data = libusb_alloc_transfer(0);
        u->out[i].zlp = libusb_alloc_transfer(0);
        if (!u->out[i].data || !u->out[i].zlp)
            return -ENOMEM;
    }
    u->idle = 1;
    return 0;
}

/* All that needs no device. NULL: no memory, or no libusb. */
static struct usb *usb_new(void)
{
    _cleanup_(usb_releasep) struct usb *u = calloc(1, sizeof(*u));
    if (!u)
        return NULL;
    u->fd = -1;
    u->base.ops = &usb_ops;
    u->base.waker_fd = -1;
    /* libusb must not look for devices itself: the sandbox shows it none, and a scan would wake up all of
     * them. */
    libusb_set_option(NULL, LIBUSB_OPTION_NO_DEVICE_DISCOVERY);
    if (libusb_init(&u->context) < 0 || allocate_transfers(u) < 0)
        return NULL;
    return steal_ptr(u);
}

static struct usb *prepared;

void usb_prepare(void)
{
    if (!prepared)
        prepared = usb_new();
}

int usb_open(int fd, enum transport_use use, struct transport **ret, struct error *e)
{
    _cleanup_close_ int owned = fd;
    _cleanup_(usb_releasep) struct usb *u = prepared ? steal_ptr(prepared) : usb_new();
    if (!u)
        return error_set(e, ERROR_FAILED, "no memory for the modem's transfers, or libusb cannot be used");
    u->fd = steal_fd(&owned);
    u->use = use;
    int r = libusb_wrap_sys_device(u->context, (intptr_t)u->fd, &u->handle);
    if (r < 0)
        return fail_open(u, r, "usbfs descriptor", e);
    r = choose_interface(u, e);
    if (r < 0)
        return r;
    u->base.max_packet = u->interface.out_max_packet;
    r = claim_interface(u, e);
    if (r < 0)
        return r;
    prepare_in(u);
    r = take_poll_fds(u); /* the node is among them now */
    if (r < 0)
        return error_set(e, ERROR_FAILED, "cannot prepare the modem's transfers: %s", strerror(-r));

    post_all_in(u);
    if (u->base.gone || u->base.in_error < 0)
        return fail_open(u, u->base.gone ? LIBUSB_ERROR_NO_DEVICE : LIBUSB_ERROR_IO, "first IN transfer", e);
    struct usb *opened = steal_ptr(u);
    *ret = &opened->base;
    return 0;
}
