/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One usbfs node played on umockdev for the real libusb: its ioctls arrive in a thread of the testbed, the
 * test scripts the device from its own. The node is a pty's slave, because poll() is not mocked: output
 * stopped means "nothing to reap", running means POLLOUT, and closing the master is POLLERR and POLLHUP, as
 * the kernel says after an unplug.
 */

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>
#include <linux/usbdevice_fs.h>
#include <umockdev.h>

enum {
    MOCK_URBS = 64,
    MOCK_INPUTS = 1024,
    MOCK_OUTPUTS = 256,
    MOCK_IN = 0x81,
    MOCK_OUT = 0x02,
    USB_DIR_IN_BIT = 0x80,
};

#define MOCK_NODE "/dev/bus/usb/001/007"

struct mock_urb {
    bool used, done;
    uint64_t order; /* of submission while pending, of completion when done */
    UMockdevIoctlData *urb, *buffer;
    gulong address; /* in the client */
    uint8_t endpoint;
    unsigned flags;
    int length, actual, status;
    uint8_t *data; /* IN: what was received so far */
};

/* What the device wants to say: one transfer, ended (short packet or ZLP) or not. */
struct mock_input {
    uint8_t *data;
    size_t size, sent;
    bool ended;
};

struct mock_output {
    size_t size;
    uint8_t *data;
};

struct mock {
    GMutex lock;
    UMockdevTestbed *testbed;
    UMockdevIoctlBase *handler;
    char *link; /* the node's path in the testbed */
    int master, slave;

    /* set by the test */
    uint8_t descriptors[256];
    size_t descriptors_size;
    unsigned busy_claims;  /* that many claims fail */
    unsigned unconfigured; /* that many GET_CONFIGURATION answer 0 */
    bool no_control;       /* control transfers are refused, as in a worker's sandbox */
    unsigned controls;     /* that were asked for */
    unsigned bare_claims;  /* that many claims find no configuration */
    bool driver_bound;     /* qcserial has the interface */
    size_t max_packet;
    unsigned out_credit; /* OUT transfers that it still takes */
    bool gone;

    /* seen by the test */
    int claimed;                                     /* interface, -1 */
    unsigned detached, clear_halts, resets, submits; /* counters */
    bool connected;                                  /* the kernel driver was given back */
    struct mock_output outputs[MOCK_OUTPUTS];
    unsigned n_outputs;

    /* inside */
    struct mock_urb urbs[MOCK_URBS];
    uint64_t order;
    struct mock_input inputs[MOCK_INPUTS];
    unsigned first_input, n_inputs;
};

/* libusb rewinds the node before it reads the descriptors; a pty cannot be rewound, and need not. */
off_t lseek64(int fd, off_t offset, int whence)
{
    long r = syscall(SYS_lseek, fd, offset, whence);
    return r < 0 && errno == ESPIPE ? 0 : (off_t)r;
}
#undef lseek /* and under the other name that libusb may have been built with */
off_t mock_lseek(int fd, off_t offset, int whence) __asm__("lseek");
off_t mock_lseek(int fd, off_t offset, int whence)
{
    return lseek64(fd, offset, whence);
}

/* ---- inside, with the lock held ---- */

static inline struct mock_urb *mock_oldest(struct mock *m, bool done, uint8_t endpoint)
{
    struct mock_urb *found = NULL;
    for (unsigned i = 0; i < MOCK_URBS; i++) {
        struct mock_urb *u = &m->urbs[i];
        if (u->used && u->done == done && (endpoint == 0 || u->endpoint == endpoint) &&
            (!found || u->order < found->order))
            found = u;
    }
    return found;
}

static inline void mock_complete(struct mock *m, struct mock_urb *u, int status)
{
    u->done = true;
    u->status = status;
    u->order = ++m->order;
    if (m->slave >= 0)
        tcflow(m->slave, TCOON);
}

/* Lets data flow as far as both sides are ready. */
static inline void mock_flow(struct mock *m)
{
    struct mock_urb *u;
    while (m->first_input < m->n_inputs && (u = mock_oldest(m, false, MOCK_IN))) {
        struct mock_input *in = &m->inputs[m->first_input];
        size_t n = in->size - in->sent, room = (size_t)(u->length - u->actual);
        if (n > room)
            n = room;
        if (n > 0)
            memcpy(u->data + u->actual, in->data + in->sent, n);
        u->actual += (int)n;
        in->sent += n;
        bool over = in->sent == in->size;
        /* A full URB is done at once; the ZLP of a full one goes into the next. */
        if (u->actual == u->length) {
            bool zlp = over && in->ended && in->size % m->max_packet == 0;
            mock_complete(m, u, 0);
            if (over && !zlp)
                m->first_input++;
            else if (over)
                *in = (struct mock_input){.data = in->data, .ended = true};
        } else {
            if (in->ended)
                mock_complete(m, u, 0);
            m->first_input++;
        }
    }
    while (m->out_credit > 0 && (u = mock_oldest(m, false, MOCK_OUT))) {
        m->out_credit--;
        g_assert(m->n_outputs < MOCK_OUTPUTS);
        struct mock_output *o = &m->outputs[m->n_outputs++];
        o->size = (size_t)u->length;
        o->data = g_memdup2(u->buffer ? u->buffer->data : NULL, o->size);
        u->actual = u->length;
        mock_complete(m, u, 0);
    }
}

static inline void mock_forget(struct mock_urb *u)
{
    g_clear_object(&u->buffer);
    g_clear_object(&u->urb);
    g_free(u->data);
    *u = (struct mock_urb){0};
}

static inline int mock_submit(struct mock *m, UMockdevIoctlClient *client)
{
    if (m->gone)
        return -ENODEV;
    g_autoptr(UMockdevIoctlData) data = umockdev_ioctl_data_resolve(umockdev_ioctl_client_get_arg(client), 0,
                                                                    sizeof(struct usbdevfs_urb), NULL);
    const struct usbdevfs_urb *urb = (const struct usbdevfs_urb *)data->data;
    struct mock_urb *u = m->urbs;
    while (u->used)
        g_assert(++u < m->urbs + MOCK_URBS);
    *u = (struct mock_urb){
        .used = true,
        .order = ++m->order,
        .address = data->client_addr,
        .endpoint = urb->endpoint,
        .flags = urb->flags,
        .length = urb->buffer_length,
    };
    if (u->length > 0) {
        u->buffer =
            umockdev_ioctl_data_resolve(data, offsetof(struct usbdevfs_urb, buffer), (gsize)u->length, NULL);
        u->data = g_malloc0((gsize)u->length);
    }
    u->urb = g_object_ref(data);
    m->submits++;
    mock_flow(m);
    return 0;
}

static inline int mock_discard(struct mock *m, UMockdevIoctlClient *client)
{
    gulong address = *(gulong *)umockdev_ioctl_client_get_arg(client)->data;
    for (unsigned i = 0; i < MOCK_URBS; i++)
        if (m->urbs[i].used && !m->urbs[i].done && m->urbs[i].address == address) {
            mock_complete(m, &m->urbs[i], -ENOENT);
            return 0;
        }
    return m->gone ? -ENODEV : -EINVAL;
}

static inline int mock_reap(struct mock *m, UMockdevIoctlClient *client)
{
    struct mock_urb *u = mock_oldest(m, true, 0);
    if (!u)
        return m->gone ? -ENODEV : -EAGAIN;
    umockdev_ioctl_data_update(u->urb, offsetof(struct usbdevfs_urb, status), (guint8 *)&u->status,
                               sizeof(u->status));
    umockdev_ioctl_data_update(u->urb, offsetof(struct usbdevfs_urb, actual_length), (guint8 *)&u->actual,
                               sizeof(u->actual));
    if (u->endpoint & USB_DIR_IN_BIT && u->actual > 0)
        umockdev_ioctl_data_update(u->buffer, 0, u->data, u->actual);
    g_autoptr(UMockdevIoctlData) arg =
        umockdev_ioctl_data_resolve(umockdev_ioctl_client_get_arg(client), 0, sizeof(void *), NULL);
    umockdev_ioctl_data_set_ptr(arg, 0, u->urb);
    mock_forget(u);
    if (!mock_oldest(m, true, 0) && m->slave >= 0)
        tcflow(m->slave, TCOOFF);
    return 0;
}

/* The argument of an ioctl that points to `size` bytes. */
static inline UMockdevIoctlData *mock_argument(UMockdevIoctlClient *client, size_t size)
{
    return umockdev_ioctl_data_resolve(umockdev_ioctl_client_get_arg(client), 0, size, NULL);
}

static inline int mock_claim(struct mock *m, UMockdevIoctlClient *client)
{
    g_autoptr(UMockdevIoctlData) data = mock_argument(client, sizeof(unsigned));
    if (m->busy_claims > 0) {
        m->busy_claims--;
        return -EBUSY;
    }
    if (m->bare_claims > 0) {
        m->bare_claims--;
        return -ENOENT;
    }
    if (m->driver_bound)
        return -EBUSY;
    m->claimed = *(int *)data->data;
    return 0;
}

static inline int mock_get_driver(struct mock *m, UMockdevIoctlClient *client)
{
    g_autoptr(UMockdevIoctlData) data = mock_argument(client, sizeof(struct usbdevfs_getdriver));
    if (!m->driver_bound)
        return -ENODATA;
    char name[] = "qcserial";
    umockdev_ioctl_data_update(data, offsetof(struct usbdevfs_getdriver, driver), (guint8 *)name,
                               sizeof(name));
    return 0;
}

static inline int mock_driver_ioctl(struct mock *m, UMockdevIoctlClient *client)
{
    g_autoptr(UMockdevIoctlData) data = mock_argument(client, sizeof(struct usbdevfs_ioctl));
    const struct usbdevfs_ioctl *command = (const struct usbdevfs_ioctl *)data->data;
    if (command->ioctl_code == (int)USBDEVFS_CONNECT) {
        m->connected = true;
        return 0;
    }
    if (command->ioctl_code != (int)USBDEVFS_DISCONNECT)
        return -ENOTTY;
    if (!m->driver_bound)
        return -ENODATA;
    m->driver_bound = false;
    m->detached++;
    return 0;
}

static inline int mock_control(struct mock *m, UMockdevIoctlClient *client)
{
    g_autoptr(UMockdevIoctlData) data = mock_argument(client, sizeof(struct usbdevfs_ctrltransfer));
    const struct usbdevfs_ctrltransfer *c = (const struct usbdevfs_ctrltransfer *)data->data;
    m->controls++;
    if (m->no_control)
        return -EACCES;
    if (c->bRequestType != 0x80 || c->bRequest != 8 || c->wLength != 1) /* GET_CONFIGURATION */
        return -EPIPE;
    guint8 configuration = m->unconfigured > 0 ? 0 : 1;
    if (m->unconfigured > 0)
        m->unconfigured--;
    g_autoptr(UMockdevIoctlData) answer =
        umockdev_ioctl_data_resolve(data, offsetof(struct usbdevfs_ctrltransfer, data), 1, NULL);
    umockdev_ioctl_data_update(answer, 0, &configuration, 1);
    return 1;
}

/* The result, negative errno on failure. */
static inline int mock_ioctl(struct mock *m, UMockdevIoctlClient *client)
{
    switch (umockdev_ioctl_client_get_request(client)) {
    case USBDEVFS_SUBMITURB:
        return mock_submit(m, client);
    case USBDEVFS_DISCARDURB:
        return mock_discard(m, client);
    case USBDEVFS_REAPURBNDELAY:
        return mock_reap(m, client);
    }
    if (m->gone)
        return -ENODEV;
    switch (umockdev_ioctl_client_get_request(client)) {
    case USBDEVFS_GET_CAPABILITIES: {
        guint32 all = 0x1f;
        g_autoptr(UMockdevIoctlData) data = mock_argument(client, sizeof(all));
        umockdev_ioctl_data_update(data, 0, (guint8 *)&all, sizeof(all));
        return 0;
    }
    case USBDEVFS_CONNECTINFO: {
        struct usbdevfs_connectinfo ci = {.devnum = 7};
        g_autoptr(UMockdevIoctlData) data = mock_argument(client, sizeof(ci));
        umockdev_ioctl_data_update(data, 0, (guint8 *)&ci, sizeof(ci));
        return 0;
    }
    case USBDEVFS_GET_SPEED:
        return 3; /* high */
    case USBDEVFS_CONTROL:
        return mock_control(m, client);
    case USBDEVFS_GETDRIVER:
        return mock_get_driver(m, client);
    case USBDEVFS_IOCTL:
        return mock_driver_ioctl(m, client);
    case USBDEVFS_CLAIMINTERFACE:
        return mock_claim(m, client);
    case USBDEVFS_RELEASEINTERFACE:
        m->claimed = -1;
        return 0;
    case USBDEVFS_CLEAR_HALT:
        m->clear_halts++;
        return 0;
    case USBDEVFS_RESET:
        m->resets++;
        return 0;
    default:
        return -ENOTTY;
    }
}

static inline gboolean mock_on_ioctl(UMockdevIoctlBase *handler, UMockdevIoctlClient *client,
                                     gpointer userdata)
{
    (void)handler;
    struct mock *m = userdata;
    g_mutex_lock(&m->lock);
    int r = mock_ioctl(m, client);
    g_mutex_unlock(&m->lock);
    umockdev_ioctl_client_complete(client, r < 0 ? -1 : r, r < 0 ? -r : 0);
    return TRUE;
}

static inline gboolean mock_on_read(UMockdevIoctlBase *handler, UMockdevIoctlClient *client,
                                    gpointer userdata)
{
    (void)handler;
    struct mock *m = userdata;
    UMockdevIoctlData *data = umockdev_ioctl_client_get_arg(client);
    gsize n = MIN(m->descriptors_size, (gsize)data->data_len);
    umockdev_ioctl_data_update(data, 0, m->descriptors, (gint)n);
    umockdev_ioctl_client_complete(client, (glong)n, 0);
    return TRUE;
}

/* ---- for the test ---- */

/* Plugs it in. Descriptors: see mock_descriptors(). */
static inline void mock_plug(struct mock *m)
{
    m->testbed = umockdev_testbed_new();
    m->claimed = -1;
    m->out_credit = G_MAXUINT;
    m->max_packet = 512;
    g_mutex_init(&m->lock);
    g_assert(openpty(&m->master, &m->slave, NULL, NULL, NULL) == 0);
    g_assert(tcflow(m->slave, TCOOFF) == 0);

    g_autofree char *root = umockdev_testbed_get_root_dir(m->testbed);
    g_autofree char *directory = g_build_filename(root, "dev", "bus", "usb", "001", NULL);
    g_assert(g_mkdir_with_parents(directory, 0755) == 0);
    m->link = g_build_filename(root, MOCK_NODE, NULL);
    g_assert(symlink(ttyname(m->slave), m->link) == 0);

    m->handler = umockdev_ioctl_base_new();
    g_signal_connect(m->handler, "handle-ioctl", G_CALLBACK(mock_on_ioctl), m);
    g_signal_connect(m->handler, "handle-read", G_CALLBACK(mock_on_read), m);
    g_assert(umockdev_testbed_attach_ioctl(m->testbed, MOCK_NODE, m->handler, NULL));
}

static inline void mock_done(struct mock *m)
{
    umockdev_testbed_detach_ioctl(m->testbed, MOCK_NODE, NULL);
    g_clear_object(&m->handler);
    g_clear_object(&m->testbed);
    for (unsigned i = 0; i < MOCK_URBS; i++)
        mock_forget(&m->urbs[i]);
    for (unsigned i = 0; i < m->n_inputs; i++)
        g_free(m->inputs[i].data);
    for (unsigned i = 0; i < m->n_outputs; i++)
        g_free(m->outputs[i].data);
    if (m->master >= 0)
        close(m->master);
    close(m->slave);
    g_free(m->link);
    g_mutex_clear(&m->lock);
}

/* The device sends one transfer: ended by a short packet or ZLP, or just left (`ended` false). */
static inline void mock_send(struct mock *m, const void *data, size_t size, bool ended)
{
    g_mutex_lock(&m->lock);
    g_assert(m->n_inputs < MOCK_INPUTS);
    m->inputs[m->n_inputs++] =
        (struct mock_input){.data = g_memdup2(data, size), .size = size, .ended = ended};
    mock_flow(m);
    g_mutex_unlock(&m->lock);
}

/* It takes so many OUT transfers more. */
static inline void mock_take(struct mock *m, unsigned credit)
{
    g_mutex_lock(&m->lock);
    m->out_credit = credit;
    mock_flow(m);
    g_mutex_unlock(&m->lock);
}

/* Ends the oldest transfer of an endpoint that waits, or all of them, with a status of the kernel (-EPIPE: a
 * stall). */
static inline void mock_fail(struct mock *m, uint8_t endpoint, int status, bool all)
{
    g_mutex_lock(&m->lock);
    struct mock_urb *u;
    while ((u = mock_oldest(m, false, endpoint))) {
        mock_complete(m, u, status);
        if (!all)
            break;
    }
    g_mutex_unlock(&m->lock);
}

/* Transfers of an endpoint that wait. */
static inline unsigned mock_pending(struct mock *m, uint8_t endpoint)
{
    unsigned n = 0;
    g_mutex_lock(&m->lock);
    for (unsigned i = 0; i < MOCK_URBS; i++)
        n += m->urbs[i].used && !m->urbs[i].done && m->urbs[i].endpoint == endpoint;
    g_mutex_unlock(&m->lock);
    return n;
}

/* The node says that the device is gone; the kernel ends what was posted with `status` before it. */
static inline void mock_unplug(struct mock *m, int status)
{
    mock_fail(m, 0, status, true);
    g_mutex_lock(&m->lock);
    m->gone = true;
    close(m->master);
    m->master = -1;
    g_mutex_unlock(&m->lock);
}
