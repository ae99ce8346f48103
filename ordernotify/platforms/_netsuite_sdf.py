"""The SuiteCloud project that a NetSuite account deploys: three order fields, and the script that speaks to us."""

from __future__ import annotations

from collections.abc import Mapping
from string import Template
from typing import Final
from xml.sax.saxutils import escape

import orjson

from ordernotify.platforms._netsuite_access import NetSuiteSettings

SECRET_ID: Final = "custsecret_ordernotify"  # noqa: S105 - the id under which the account keeps the secret
SCRIPT: Final = "customscript_on_order_event"

_MANIFEST = """\
<manifest projecttype="ACCOUNTCUSTOMIZATION">
  <projectname>ordernotify</projectname>
  <frameworkversion>1.0</frameworkversion>
  <dependencies>
    <features>
      <feature required="true">CUSTOMCODE</feature>
      <feature required="true">SERVERSIDESCRIPTING</feature>
    </features>
  </dependencies>
</manifest>
"""
_DEPLOY = """\
<deploy>
  <files>
    <path>~/FileCabinet/SuiteScripts/ordernotify/*</path>
  </files>
  <objects>
    <path>~/Objects/*</path>
  </objects>
</deploy>
"""
_FIELD = Template("""\
<transactionbodycustomfield scriptid="$name">
  <label>$label</label>
  <fieldtype>$kind</fieldtype>
  <displaytype>LOCKED</displaytype>
  <storevalue>T</storevalue>
  <bodysale>T</bodysale>
  <accesslevel>2</accesslevel>
  <searchlevel>2</searchlevel>
</transactionbodycustomfield>
""")
_DEPLOYMENT = Template("""\
    <scriptdeployment scriptid="$name">
      <allroles>T</allroles>
      <isdeployed>T</isdeployed>
      <loglevel>ERROR</loglevel>
      <recordtype>$record</recordtype>
      <status>RELEASED</status>
    </scriptdeployment>
""")
_SCRIPT = Template("""\
<usereventscript scriptid="$script">
  <name>ordernotify: tell order events</name>
  <scriptfile>[/SuiteScripts/ordernotify/order_event.js]</scriptfile>
  <scriptdeployments>
$deployments  </scriptdeployments>
</usereventscript>
""")
_CODE = Template("""\
/**
 * Posts a sales order to ordernotify after it, or a fulfillment of it, was saved; signed by Standard Webhooks.
 *
 * @NApiVersion 2.1
 * @NScriptType UserEventScript
 * @NModuleScope SameAccount
 */
define(['N/crypto', 'N/encode', 'N/https', 'N/log', 'N/record', 'N/runtime', 'N/search'],
  (crypto, encode, https, log, record, runtime, search) => {
    const URL = $url;
    const REFERENCE = $reference;
    const SECRET = '$secret';

    const whole = (value) => Math.max(0, Math.trunc(Number(value) || 0));

    const linesOf = (order) => {
      const lines = [];
      const count = order.getLineCount({ sublistId: 'item' });
      for (let line = 0; line < count; line += 1) {
        const get = (fieldId) => order.getSublistValue({ sublistId: 'item', fieldId, line });
        lines.push({
          sku: String(order.getSublistText({ sublistId: 'item', fieldId: 'item', line }) || ''),
          quantity: whole(get('quantity')),
          backordered: whole(get('quantitybackordered')),
          committed: whole(get('quantitycommitted')),
          shipped: whole(get('quantityfulfilled')),
        });
      }
      return lines;
    };

    const fulfillmentsOf = (orderId) => {
      const found = [];
      search.create({
        type: search.Type.ITEM_FULFILLMENT,
        filters: [['createdfrom', 'anyof', orderId], 'AND', ['mainline', 'is', 'T']],
        columns: [search.createColumn({ name: 'internalid', sort: search.Sort.ASC }), 'status', 'trackingnumbers'],
      }).run().each((row) => {
        found.push({
          internal_id: row.id,
          status_code: row.getText('status'),
          tracking: String(row.getValue('trackingnumbers') || '').split(/<br>|[\\s,;]+/i).filter(Boolean),
        });
        return found.length < 100;
      });
      return found;
    };

    const send = (id, body) => {
      const stamp = String(Math.floor(Date.now() / 1000));
      const key = crypto.createSecretKey({ secret: SECRET, encoding: encode.Encoding.BASE_64 });
      const hmac = crypto.createHmac({ algorithm: crypto.HashAlg.SHA256, key });
      hmac.update({ input: [id, stamp, body].join('.'), inputEncoding: encode.Encoding.UTF_8 });
      const signature = hmac.digest({ outputEncoding: encode.Encoding.BASE_64 });
      return https.post({
        url: URL,
        body,
        headers: {
          'Content-Type': 'application/json',
          'webhook-id': id,
          'webhook-timestamp': stamp,
          'webhook-signature': 'v1,' + signature,
        },
      });
    };

    const isOurOwnWriting = (context) => {
      if (context.type === context.UserEventType.CREATE || !context.oldRecord) return false;
      const before = context.oldRecord.getValue({ fieldId: REFERENCE });
      return context.newRecord.getValue({ fieldId: REFERENCE }) !== before;
    };

    const afterSubmit = (context) => {
      // Nothing that goes wrong here may keep anybody from saving an order.
      try {
        if (context.type === context.UserEventType.DELETE) return;
        const saved = context.newRecord;
        const isOrder = saved.type === record.Type.SALES_ORDER;
        if (isOrder && isOurOwnWriting(context)) return;
        const orderId = isOrder ? saved.id : saved.getValue({ fieldId: 'createdfrom' });
        if (!orderId) return;
        const type = record.Type.SALES_ORDER;
        const order = record.load({ type, id: orderId });
        const known = search.lookupFields({ type, id: orderId, columns: ['status'] });
        const now = new Date().toISOString();
        const id = ['ns', 'so', orderId, now].join('-');
        const answer = send(id, JSON.stringify({
          event_id: id,
          type: 'netsuite.salesorder.changed',
          occurred_at: now,
          account: runtime.accountId,
          record: 'salesorder',
          internal_id: String(orderId),
          tran_id: order.getValue({ fieldId: 'tranid' }),
          client: String(order.getValue({ fieldId: 'entity' })),
          status_text: known.status && known.status.length ? known.status[0].text : '',
          lines: linesOf(order),
          fulfillments: fulfillmentsOf(orderId),
        }));
        if (answer.code >= 300) log.error({ title: 'ordernotify', details: 'HTTP ' + answer.code });
      } catch (error) {
        log.error({ title: 'ordernotify', details: error.name });
      }
    };

    return { afterSubmit };
  });
""")


def project(settings: NetSuiteSettings, webhook_url: str) -> Mapping[str, str]:
    """Return the files of the project by their path; made of settings and ``webhook_url``, without a secret."""
    deployments = "".join(
        _DEPLOYMENT.substitute(name=f"customdeploy_on_{record.lower()}", record=record)
        for record in ("SALESORDER", "ITEMFULFILLMENT")
    )
    fields = (
        (settings.status_field, "Notice: status", "TEXT"),
        (settings.text_field, "Notice: words", "TEXTAREA"),
        (settings.reference_field, "Notice: reference", "TEXT"),
    )
    # A URL stands in the script as a JSON string, so that nothing in it can end the literal.
    code = _CODE.substitute(
        url=orjson.dumps(webhook_url).decode(),
        reference=orjson.dumps(settings.reference_field).decode(),
        secret=SECRET_ID,
    )
    return {
        "src/manifest.xml": _MANIFEST,
        "src/deploy.xml": _DEPLOY,
        **{
            f"src/Objects/{name}.xml": _FIELD.substitute(name=name, label=escape(label), kind=kind)
            for name, label, kind in fields
        },
        f"src/Objects/{SCRIPT}.xml": _SCRIPT.substitute(script=SCRIPT, deployments=deployments),
        "src/FileCabinet/SuiteScripts/ordernotify/order_event.js": code,
    }
